"""Hostile scripts: each ends in a Lua error or is stopped, and the next call works."""

from __future__ import annotations

import threading

import pytest

from dgate.errors import RuleError
from dgate.rules.lua.engine import LuaEngine
from dgate.rules.lua.state import Limits, LuaState
from dgate.rules.run import Run
from dgate.rules.session import Session
from tests.rules import kit
from tests.rules.lua.library_kit import Bench

SMALL = Limits(instructions=3_000_000, memory_bytes=16 << 20, seconds=60)
INSTRUCTIONS = "exceeds LuaInstructions"
MEMORY = "not enough memory"
STACK = "stack overflow"


def run_in_small_thread(code: str, limits: Limits = SMALL) -> tuple[str, LuaState | None]:
    """Run code in a thread with the stack of an association; return its error and the state."""
    session = Session("A", "B")
    engine = LuaEngine(limits)
    table = kit.with_sequence()
    errors: list[str] = []

    def work() -> None:
        run = Run(table, kit.captured(), kit.FakeEnvironment(), session=session)
        run.enter("ImportConverter0", "dicom.ini:1")
        try:
            engine.run(run, kit.rules().library, code.encode(), "=test")
        except RuleError as exc:
            errors.append(exc.what)
        # Whatever happened, the session can be used again.
        assert engine.evaluate(run, kit.rules().library, b"return 1 + 1", "=test") == 2

    before = threading.stack_size(4 << 20)
    thread = threading.Thread(target=work)
    thread.start()
    threading.stack_size(before)
    thread.join()
    state = session.lua
    assert isinstance(state, LuaState), "the thread has failed"
    return "".join(errors), state


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("while true do end", INSTRUCTIONS),
        ("local function f() return f() end f()", INSTRUCTIONS),
        ("while true do pcall(function() while true do end end) end", INSTRUCTIONS),
        ("while true do pcall(error) end", INSTRUCTIONS),
        ("local function f() while true do pcall(f) end end f()", INSTRUCTIONS),
        (
            "local t t = setmetatable({}, {__index = function() "
            "while true do pcall(function() return t.x end) end end}) return t.x",
            INSTRUCTIONS,
        ),
        (
            "xpcall(function() while true do end end, function() while true do end end)",
            INSTRUCTIONS,
        ),
        ("xpcall(error, function() while true do end end)", INSTRUCTIONS),
        ("coroutine.wrap(function() while true do end end)()", INSTRUCTIONS),
        (
            "while true do coroutine.resume(coroutine.create(function() "
            "while true do end end)) end",
            INSTRUCTIONS,
        ),
        (
            "local co = coroutine.wrap(function() while true do coroutine.yield() end end) "
            "while true do co() end",
            INSTRUCTIONS,
        ),
        ("string.gsub(string.rep('a', 100), 'a', function() while true do end end)", INSTRUCTIONS),
        ("table.sort({3, 2, 1}, function() while true do end end)", INSTRUCTIONS),
        ("load(function() return ' ' end)", INSTRUCTIONS),
        ("while true do local x = Data.PatientID end", INSTRUCTIONS),
        ("setmetatable(_G, {__index = function() while true do end end}) return x", INSTRUCTIONS),
        ("local t = {} while true do t[#t + 1] = ('x'):rep(1000) .. #t end", MEMORY),
        ("local s = 'x' while true do s = s .. s end", MEMORY),
        ("return string.rep('x', 1e9)", MEMORY),
        ("return ('x'):rep(1e6):rep(1e6)", MEMORY),
        ("return table.concat({('x'):rep(1e6), ('y'):rep(1e7)}, ('z'):rep(1e7))", MEMORY),
        ("local t = {} for i = 1, 1e6 do t[i] = ('x'):rep(1e6) .. i end", MEMORY),
        ("local s = ('x'):rep(9e6) Data.PatientComments = s return Data.PatientComments .. s",
         MEMORY),
        ("local t = {} while true do t[#t + 1] = Data:Copy() end", f"{MEMORY}|{INSTRUCTIONS}"),
        ("while true do Data.ReferencedStudySequence:Add(Data) end", f"{MEMORY}|{INSTRUCTIONS}"),
        ("local function f() return 1 + f() end f()", STACK),
        ("local function f() string.gsub('a', 'a', f) end f()", STACK),
        ("local function f() coroutine.wrap(f)() end f()", STACK),
        ("local function f() pcall(f) error('deep') end f()", "deep"),
        ("local function f() return load(f) end f()", f"{STACK}|{INSTRUCTIONS}"),
        ("local t = setmetatable({}, {}) getmetatable(t).__index = function(t, k) "
         "return t[k] end return t.x", STACK),
        ("return loadstring('return ' .. ('('):rep(300) .. '1' .. (')'):rep(300))()", "nil value"),
        ("return string.find(('a'):rep(1e5), ('a?'):rep(1e5))", "the pattern is longer"),
        ("return loadstring(string.dump(function() end))()", "nil value"),
        ("return load(function() return '\\27Lua' end)()", f"{INSTRUCTIONS}|nil value"),
        ("os.exit()", "would end the server"),
        ("coroutine.yield(1)", "attempt to yield"),
        ("error()", "error object is a nil value"),
        ("error({})", "error object is a table value"),
        ("error(function() end)", "error object is a function value"),
        ("error(setmetatable({}, {__tostring = function() while true do end end}))",
         "error object is a table value"),
        ("error(Data)", "error object is a userdata value"),
        ("script('lua \"script([[nop]]) nosuch()\"')", "nosuch"),
        ("function again() script('lua \"again()\"') end again()", f"too deep|{STACK}"),
        ("print(unpack({}, 1, 1e8))", "too many results"),
        ("genuid(unpack({}, 1, 250))", "too many arguments"),
        ("return debug.sethook()", "nil value"),
        ("return newproxy(true)", "nil value"),
        ("return python.eval('1')", "nil value"),
        ("return package.loaded.python.eval('1')", "nil value"),
        ("package.loadlib('x.so', 'f')", "nil value"),
        ("io.popen('ls')", "io.popen is not offered"),
        ("io.open('/etc/passwd')", "leads out of the folders"),
        ("dofile('/etc/passwd')", "leads out of the folders"),
        ("io.lines('../../etc/passwd')", "leads out of the folders"),
        ("os.remove('/etc/passwd')", "leads out of the folders"),
        ("os.rename('x', '/etc/passwd')", "leads out of the folders"),
        ("os.execute('ls | cat')", "run without a shell"),
        ("sleep('x')", "must be a number"),
    ],
)  # fmt: skip
def test_hostile_script_ends_in_an_error(code: str, error: str) -> None:
    found, _ = run_in_small_thread(code)
    assert any(part in found for part in error.split("|")), found


def test_state_that_exceeded_a_limit_is_thrown_away_and_others_are_not() -> None:
    engine, library, session = LuaEngine(SMALL), kit.rules().library, Session()
    run = Run(kit.table(), kit.captured(), kit.FakeEnvironment(), session=session)

    def value(code: bytes) -> object:
        return engine.evaluate(run, library, code, "=test")

    value(b"kept = 1")
    with pytest.raises(RuleError):
        value(b"error('x')")
    assert value(b"return kept") == 1
    with pytest.raises(RuleError):
        value(b"while true do pcall(error) end")
    assert value(b"return tostring(kept)") == "nil"


def test_wall_time_is_limited_while_a_script_sleeps() -> None:
    found, _ = run_in_small_thread("while true do pcall(sleep, 5000) end", Limits(seconds=0.2))
    assert "exceeds LuaSeconds" in found


def test_wall_time_is_limited_while_a_script_computes() -> None:
    limits = Limits(instructions=0, seconds=0.2)
    found, _ = run_in_small_thread("while true do end", limits)
    assert "exceeds LuaSeconds" in found


def test_waiting_for_other_nodes_hardly_counts() -> None:
    bench = Bench(limits=Limits(seconds=1e9))
    before = bench.state.clock()
    bench.state._waited_s = 1000.0  # what `waiting` adds up
    assert bench.state.clock() - before < 0
    bench.close()


def test_limits_of_zero_are_none() -> None:
    bench = Bench(limits=Limits(instructions=0, memory_bytes=0, seconds=0))
    code = "local t = {} for i = 1, 2e6 do t[i % 100] = i end return ('x'):rep(4e7):len()"
    assert bench.run(code) == 40_000_000
    bench.close()


def test_each_call_has_the_whole_budget() -> None:
    bench = Bench(limits=Limits(instructions=1_000_000))
    for _ in range(5):
        bench.run("for i = 1, 100000 do end")
    bench.close()


def test_patched_libraries_harm_only_the_script_itself() -> None:
    first, second = Bench(), Bench()
    first.run("""
        for name in pairs(string) do string[name] = nil end
        tostring, type, pairs, error, pcall, setmetatable = nil, nil, nil, nil, nil, nil
        getmetatable('').__index = nil
        table.concat = nil
    """)
    assert first.run("Data.PatientID = 5 print(Data, nil) return Data.PatientID") == "5"
    assert first.run("return Data:GetVR(8, 0x60, true)") == second.run("return Data.Modality")
    assert second.run("return ('x'):rep(3) .. tostring(1)") == "xxx1"
    first.close()
    second.close()


def test_globals_table_may_be_strict() -> None:
    bench = Bench()
    bench.run("setmetatable(_G, {__newindex = function(t, k) error('no ' .. k) end})")
    assert bench.run("return Data.Modality") is not None
    with pytest.raises(RuleError, match="no x"):
        bench.run("x = 1")
    bench.close()


def test_a_failure_that_was_caught_is_not_the_error_of_the_next() -> None:
    bench = Bench()
    code = "pcall(function() io.open('/etc/x') end) error('something else')"
    with pytest.raises(RuleError, match="something else"):
        bench.run(code)
    bench.close()


def test_unrestricted_scripts_have_the_debug_library() -> None:
    bench = Bench(limits=Limits(unrestricted=True))
    assert bench.run("return type(debug.sethook) .. type(package.loadlib) .. #package.loaders") == (
        "functionfunction4"
    )
    bench.close()


def test_restricted_scripts_have_a_traceback() -> None:
    bench = Bench()
    assert "in main chunk" in bench.run("local t = debug.traceback('x') return t")
    assert bench.run("return debug.getinfo(1, 'l').currentline") == 1
    assert bench.run("return tostring(debug.getinfo(1, 'f').func)") == "nil"
    bench.close()


def test_time_that_passes_in_the_matching_of_patterns_counts() -> None:
    """No hook runs there, so the end of the match is where the limit is seen."""
    slow = (
        "local s = 'b,x' .. (' '):rep(20000) .. 'x' "
        "while true do pcall(string.match, s, '^%s*([^,^]+),%s*(.-)%s*$') end"
    )
    error, _ = run_in_small_thread(slow, Limits(instructions=0, memory_bytes=16 << 20, seconds=0.1))
    assert "LuaSeconds" in error


@pytest.mark.parametrize(
    "code",
    [
        "return ('x'):rep(200000):match('^%s*(.-)%s*$')",
        "return ('x'):rep(200000):find('a*b*')",
        "return ('x'):rep(200000):gsub('[a-z]+%-*', '')",
        "for a in ('x'):rep(200000):gmatch('(.-),(.-)') do end",
    ],
)
def test_text_that_a_pattern_could_take_hours_for_is_refused(code: str) -> None:
    error, _ = run_in_small_thread(code)
    assert "the text is longer than 30000 characters" in error


@pytest.mark.parametrize(
    "code",
    [
        "return ('x,'):rep(200000):gsub(',', '')",
        "for a in ('x,'):rep(200000):gmatch('[^,a-z]+') do end",
        "return ('x'):rep(200000):find('a*b*', 1, true)",
        "return ('x'):rep(25000):match('^%s*(.-)%s*$')",
        "local t = {1, 2} table.insert(t, 1, 0) table.insert(t, 3) table.insert(t, 9, 9)",
    ],
)
def test_long_texts_and_tables_work_where_they_can(code: str) -> None:
    assert run_in_small_thread(code)[0] == ""


def test_inserting_far_below_a_table_is_refused() -> None:
    error, _ = run_in_small_thread("table.insert({}, -2147483648, 1)")
    assert "position out of bounds" in error


def test_state_that_another_script_does_not_give_back_is_waited_for_in_vain() -> None:
    session = Session()
    engine = LuaEngine(Limits(seconds=0.2))
    busy, done = threading.Event(), threading.Event()

    def hold() -> None:
        with session.lock:
            busy.set()
            done.wait(60)

    holder = threading.Thread(target=hold)
    holder.start()
    busy.wait(60)
    run = Run(kit.table(), kit.captured(), kit.FakeEnvironment(), session=session)
    with pytest.raises(RuleError, match="the Lua state was busy"):
        engine.run(run, kit.rules().library, b"return 1", "=test")
    done.set()
    holder.join()


def test_environment_of_the_state_cannot_be_replaced() -> None:
    error, _ = run_in_small_thread("setfenv(0, {})")
    assert "cannot change the environment of the state" in error


def test_environment_of_a_function_can() -> None:
    code = """
    local function f() return x end
    setfenv(f, {x = 1})
    assert(f() == 1)
    local function g() setfenv(1, {x = 2, assert = assert}) assert(x == 2) end
    g()
    assert(x == nil)
    """
    assert run_in_small_thread(code)[0] == ""
