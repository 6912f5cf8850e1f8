-- What every Lua state begins with: objects, functions made in Python, and limits.
-- Runs before any script; what it needs is taken into locals, so that scripts may patch what they
-- like. The tables of Python functions in `...` are never reachable by scripts.

local native, soft_kb, unrestricted = ...

local type, tostring, tonumber, select, next, pairs = type, tostring, tonumber, select, next, pairs
local error, pcall, xpcall, rawget, rawset = error, pcall, xpcall, rawget, rawset
local setmetatable, getmetatable = setmetatable, getmetatable
local newproxy, loadstring, unpack = newproxy, loadstring, unpack
local collect = collectgarbage
local gsub, find, match, gmatch, rep, byte, format =
  string.gsub, string.find, string.match, string.gmatch, string.rep, string.byte, string.format
local concat, insert, floor = table.concat, table.insert, math.floor
local sethook, getinfo, metatable_of = debug.sethook, debug.getinfo, debug.getmetatable
local give_metatable = debug.setmetatable
local co_create, co_resume = coroutine.create, coroutine.resume
local globals = _G
local MINE = '=prelude'
local LONGEST_PATTERN, LONGEST_SUBJECT = 4096, 30000

-- Errors -------------------------------------------------------------------------------------

-- Raises an error that names the line of the script.
local function fail(message)
  for level = 2, 16 do
    local info = getinfo(level, 'Sl')
    if not info then break end
    if info.currentline > 0 and info.source ~= MINE then
      error(info.short_src .. ':' .. info.currentline .. ': ' .. message, 0)
    end
  end
  error(message, 0)
end

-- Python must never run out of Lua memory while it hands something over: it has what lies between
-- this limit and the hard one.
local function make_room()
  collect()
  if collect('count') > soft_kb then
    fail('not enough memory: the script exceeds LuaMemoryMB')
  end
end

-- Limits -------------------------------------------------------------------------------------

local step, budget, deadline, used, late = 100000, 0, 0, 0, nil
local clock = native.clock

local function is_late()
  if not late then
    used = used + step
    if budget > 0 and used >= budget then
      late = native.exceeded('LuaInstructions')
    elseif deadline > 0 and clock() >= deadline then
      late = native.exceeded('LuaSeconds')
    end
  end
  return late
end

-- Raises at every instruction once the limit is exceeded, so that no pcall can go on.
local function watch()
  if is_late() then
    sethook(watch, '', 1)
    error(late, 0)
  end
end

-- Where the C stack is used up this hook cannot be called either: such errors count instead.
local function caught(ok, message, ...)
  if not ok then
    if late then error(late, 0) end
    local full = type(message) == 'string' and find(message, 'C stack overflow', 1, true)
    if full and is_late() then error(late, 0) end
  end
  return ok, message, ...
end

globals.pcall = function(f, ...) return caught(pcall(f, ...)) end

-- A handler runs where the error was raised: within the hook, no hook would end it.
globals.xpcall = function(f, handler)
  return caught(xpcall(f, function(message)
    if late then return late end
    return handler(message)
  end))
end

-- Lua 5.1 bounds how deep C code calls itself for each coroutine only, and gsub takes 8 kB of the
-- thread's stack each time. So both are counted here, over all coroutines.
local DEEPEST_COROUTINES, DEEPEST_GSUB = 16, 48
local coroutine_depth, gsub_depth = 0, 0

local function back(...)
  coroutine_depth = coroutine_depth - 1
  return ...
end

local function resume(co, ...)
  if coroutine_depth >= DEEPEST_COROUTINES then return false, 'C stack overflow' end
  coroutine_depth = coroutine_depth + 1
  return back(caught(co_resume(co, ...)))
end

local function armed(f)
  local co = co_create(f)
  sethook(co, watch, '', late and 1 or step)
  return co
end

local function passed_on(ok, ...)
  if ok then return ... end
  error((...), 0)
end

coroutine.create = armed
coroutine.resume = resume
coroutine.wrap = function(f)
  local co = armed(f)
  return function(...) return passed_on(resume(co, ...)) end
end

-- A pattern is matched by C code that calls itself once for each of its parts, and that no hook
-- stops: with two repetitions the time may grow with the square of the text, which may come from
-- whoever sends objects.
local function checked(pattern, subject)
  if type(pattern) ~= 'string' then return pattern end
  if #pattern > LONGEST_PATTERN then
    fail('the pattern is longer than ' .. LONGEST_PATTERN .. ' characters')
  end
  if type(subject) == 'string' and #subject > LONGEST_SUBJECT then
    local bare = gsub(gsub(pattern, '%%.', 'x'), '%[%^?%]?[^%]]*%]', 'x')
    local _, repetitions = gsub(bare, '[%*%+%-]', '')
    if repetitions > 1 then
      fail('the text is longer than ' .. LONGEST_SUBJECT ..
        ' characters, which a pattern with several repetitions could take hours for; split it')
    end
  end
  return pattern
end

local function timely(subject, ...)
  if type(subject) ~= 'string' or #subject < 4096 then return ... end
  if not late and deadline > 0 and clock() >= deadline then
    late = native.exceeded('LuaSeconds')
  end
  if late then
    sethook(watch, '', 1)
    error(late, 0)
  end
  return ...
end

string.find = function(s, pattern, first, plain)
  if not plain then checked(pattern, s) end
  return timely(s, find(s, pattern, first, plain))
end
string.match = function(s, pattern, ...)
  return timely(s, match(s, checked(pattern, s), ...))
end
string.gmatch = function(s, pattern)
  local step_on = gmatch(s, checked(pattern, s))
  if type(s) ~= 'string' or #s < 4096 then return step_on end
  return function() return timely(s, step_on()) end
end
string.gfind = string.gmatch
string.gsub = function(s, pattern, replacement, ...)
  checked(pattern, s)
  local kind = type(replacement)
  if kind ~= 'function' and kind ~= 'table' then
    return timely(s, gsub(s, pattern, replacement, ...))
  end
  if gsub_depth >= DEEPEST_GSUB then fail('C stack overflow') end
  gsub_depth = gsub_depth + 1
  local ok, result, count = pcall(gsub, s, pattern, replacement, ...)
  gsub_depth = gsub_depth - 1
  if not ok then error(result, 0) end
  return result, count
end
-- It would shift the elements down to there, one by one.
table.insert = function(list, ...)
  if select('#', ...) > 1 then
    local position = (...)
    if type(position) == 'number' and position < 0 then fail('position out of bounds') end
  end
  return insert(list, ...)
end
string.rep = function(s, n)
  if s == '' then return '' end
  return rep(s, n)
end

-- Another environment of the state itself would be that of all code that runs later.
local set_environment = setfenv
globals.setfenv = function(target, environment)
  if target == 0 then fail('setfenv cannot change the environment of the state') end
  if type(target) == 'number' and target > 0 then target = target + 1 end
  local result = set_environment(target, environment)
  return result
end

-- Compiled code can do anything to the process.
local function is_compiled(text)
  return type(text) == 'string' and byte(text) == 27
end
local function compile(text, name)
  if is_compiled(text) then return nil, 'compiled Lua code cannot be loaded' end
  return loadstring(text, name)
end
globals.loadstring = function(text, name) return compile(text, name) end
globals.load = function(reader, name)
  local pieces = {}
  for number = 1, 1000000 do
    local piece = reader()
    if piece == nil or piece == '' then break end
    if type(piece) ~= 'string' then fail('the reader function must return a string') end
    pieces[number] = piece
  end
  return compile(concat(pieces), name or '=(load)')
end

-- Objects ------------------------------------------------------------------------------------

local handles = setmetatable({}, { __mode = 'k' })
local object_kind, array_kind = newproxy(true), newproxy(true)
local object_meta, array_meta = getmetatable(object_kind), getmetatable(array_kind)
-- What the object whose pixels are being worked on has in the place of object_meta.
local pixels_meta = {}
local methods, array_methods = {}, {}
local data

local function proxy(kind, handle)
  local made = newproxy(kind == 2 and object_kind or array_kind)
  handles[made] = handle
  return made
end

-- Turns what Python returned into what scripts see: 0 failure, 1 values, 2 object, 3 array.
local function settled(kind, value, ...)
  if collect('count') > soft_kb then make_room() end
  if kind == 1 then return value, ... end
  if kind == 0 then fail(value) end
  return proxy(kind, value)
end

local function opened(count, value, ...)
  if count == 0 then return end
  local handle = handles[value]
  if handle ~= nil then value = handle end
  return value, opened(count - 1, ...)
end

-- Returns the Lua form of a Python function.
local function wrapped(f)
  return function(...)
    if collect('count') > soft_kb then make_room() end
    local count = select('#', ...)
    if count > 200 then fail('too many arguments') end
    return settled(f(opened(count, ...)))
  end
end

local function is_object(value)
  if value == nil or handles[value] == nil then return false end
  local meta = metatable_of(value)
  return meta == object_meta or meta == pixels_meta
end

-- Returns the function form of a method: Data where the first argument is no object.
local function optional(method)
  return function(first, ...)
    if first ~= nil and handles[first] ~= nil then return method(first, ...) end
    if first == nil and select('#', ...) == 0 then return method(data) end
    return method(data, first, ...)
  end
end

-- Elements are read far more often than anything else: one value, no table, no closure. A view or
-- a failure arrives as a Python object.
local get, set, at, size = native.get, native.set, native.at, native.size

local function unpacked(value)
  local kind = value.kind
  if kind == 0 then fail(value.message) end
  return proxy(kind, value)
end

object_meta.__index = function(self, key)
  local method = methods[key]
  if method ~= nil then return method end
  if collect('count') > soft_kb then make_room() end
  local value = get(handles[self], key)
  if type(value) ~= 'userdata' then return value end
  return unpacked(value)
end

local function assign(handle, key, value)
  if collect('count') > soft_kb then make_room() end
  local kind = type(value)
  local failure
  if kind == 'string' then
    failure = set(handle, key, value)
  elseif kind == 'number' then
    failure = set(handle, key, tostring(value))
  elseif kind == 'nil' or kind == 'table' then
    failure = set(handle, key, nil, kind == 'table')
  else
    if handles[value] ~= nil then kind = tostring(value) .. ' (use SetVR)' end
    fail('an element cannot be set to a ' .. kind)
  end
  if failure ~= nil then unpacked(failure) end
end

object_meta.__newindex = function(self, key, value) assign(handles[self], key, value) end
object_meta.__len = function() return 1 end
object_meta.__tostring = function() return 'Dicom Data Object' end
object_meta.__metatable = false

-- A loop over pixels finds a method for each of them. Where __index is a table that is a look-up,
-- where it is a function a call; but what a table does not have is asked for without saying for
-- whom, so that one object at a time can have it so.
local favoured
for name, part in pairs(object_meta) do pixels_meta[name] = part end

local function favour(object)
  if favoured ~= nil then give_metatable(favoured, object_meta) end
  favoured = object
  if object == nil then return end
  if pixels_meta.__index == object_meta.__index then
    local known = {}
    for name, method in pairs(methods) do known[name] = method end
    pixels_meta.__index = setmetatable(known, {
      __index = function(_, key) return object_meta.__index(favoured, key) end,
    })
  end
  give_metatable(object, pixels_meta)
end

-- A key that begins with a digit is an item number; what is no number counts as 0.
local function number_of(key)
  if type(key) == 'number' then return floor(key) end
  if type(key) == 'string' and find(key, '^%d') then return tonumber(key) or 0 end
end

local function item_of(self, number)
  if collect('count') > soft_kb then make_room() end
  local item = at(handles[self], number)
  if item ~= nil then return unpacked(item) end
end

array_meta.__index = function(self, key)
  local method = array_methods[key]
  if method ~= nil then return method end
  local number = number_of(key)
  if number then return item_of(self, number) end
  if size(handles[self]) == 0 then return nil end
  local first = item_of(self, 0)
  return first and first[key]
end
array_meta.__newindex = function(self, key, value)
  if number_of(key) then
    if type(value) ~= 'table' then fail('items are added by Add(object)') end
    local failure = native.begin(handles[self])
    if failure ~= nil then unpacked(failure) end
    return
  end
  assign(handles[item_of(self, 0)], key, value)
end
array_meta.__len = function(self)
  local count = size(handles[self])
  if type(count) == 'userdata' then unpacked(count) end
  return count
end
array_meta.__tostring = function(self)
  local count = size(handles[self])
  return 'Dicom sequence with ' .. (type(count) == 'number' and count or 0) .. ' entries'
end
array_meta.__metatable = false

-- Settings, association ----------------------------------------------------------------------

local function read_only(name, read)
  local made = newproxy(true)
  local meta = getmetatable(made)
  meta.__index = function(_, key) return read(key) end
  meta.__newindex = function(_, key) fail(name .. '.' .. tostring(key) .. ' cannot be changed') end
  meta.__tostring = function() return name end
  meta.__metatable = false
  return made, meta
end

globals.Association = read_only('Association', wrapped(native.association))
local settings, settings_meta = read_only('Global', wrapped(native.setting))
local change = wrapped(native.change)
settings_meta.__newindex = function(_, key, value) change(key, value) end
globals.Global = settings

-- Output -------------------------------------------------------------------------------------

-- Returns `table:0x...` for what is neither text nor number, without calling __tostring.
local function shown(value)
  local kind = type(value)
  if kind == 'string' then return value end
  if kind == 'number' or kind == 'nil' or kind == 'boolean' then return tostring(value) end
  local meta = metatable_of(value)
  local own = type(meta) == 'table' and rawget(meta, '__tostring') or nil
  if own ~= nil then rawset(meta, '__tostring', nil) end
  local text = tostring(value)
  if own ~= nil then rawset(meta, '__tostring', own) end
  return (gsub(text, ': ', ':', 1))
end

local function joined(...)
  local texts = {}
  for number = 1, select('#', ...) do texts[number] = shown((select(number, ...))) end
  return concat(texts, '\t')
end

local say, say_debug = wrapped(native.say), wrapped(native.say_debug)
globals.print = function(...) say(joined(...)) end
globals.debuglog = function(...) say_debug(joined(...)) end

-- Libraries ----------------------------------------------------------------------------------

local function made(functions)
  local result = {}
  for name, f in pairs(functions) do result[name] = wrapped(f) end
  return result
end

local function add(functions, own_methods, twins, own_array_methods, array_twins)
  for name, f in pairs(functions) do globals[name] = wrapped(f) end
  for name, f in pairs(own_methods) do
    local method = wrapped(f)
    methods[name] = method
    if twins[name] then globals[twins[name]] = optional(method) end
  end
  for name, f in pairs(own_array_methods) do
    array_methods[name] = wrapped(f)
    if array_twins[name] then globals[array_twins[name]] = array_methods[name] end
  end
end

local function extend(code, natives)
  loadstring(code) {
    native = made(natives),
    methods = methods,
    array_methods = array_methods,
    optional = optional,
    is_object = is_object,
    favour = favour,
    fail = fail,
    compile = compile,
    base_folder = native.base_folder,
    unrestricted = unrestricted,
  }
end

-- Running ------------------------------------------------------------------------------------

local class = proxy(2, native.class)

-- Puts the objects of a call into the globals and returns those that were there.
local function enter(data_handle, command_handle, line, file_name)
  local before = {
    data, rawget(globals, 'Data'), rawget(globals, 'Command'), rawget(globals, 'DicomObject'),
    rawget(globals, 'command_line'), rawget(globals, 'Filename'),
  }
  data = proxy(2, data_handle)
  rawset(globals, 'Data', data)
  rawset(globals, 'Command', proxy(2, command_handle))
  rawset(globals, 'DicomObject', class)
  rawset(globals, 'command_line', line)
  rawset(globals, 'Filename', file_name)
  return before
end

local function leave(before)
  data = before[1]
  rawset(globals, 'Data', before[2])
  rawset(globals, 'Command', before[3])
  rawset(globals, 'DicomObject', before[4])
  rawset(globals, 'command_line', before[5])
  rawset(globals, 'Filename', before[6])
end

-- Only text and numbers leave the state; anything else would be kept alive by Python.
local function result_of(ok, value)
  local kind = type(value)
  if ok then
    if kind == 'string' or kind == 'number' or kind == 'boolean' then return true, value end
    return true, nil
  end
  if kind == 'string' then return false, value end
  if kind == 'number' then return false, tostring(value) end
  return false, '(error object is a ' .. kind .. ' value)'
end

local function begin(most, seconds)
  budget, used, late = most, 0, nil
  coroutine_depth, gsub_depth = 0, 0
  deadline = seconds > 0 and clock() + seconds or 0
  step = most > 0 and most < 100000 and most or 100000
  sethook(watch, '', step)
  if collect('count') > soft_kb / 2 then collect() end
end

local function call(chunk, ...) return result_of(pcall(chunk, ...)) end

-- The values of a table from `first` on, 200 at a time.
local function slice(values, first, last) return unpack(values, first, last) end

-- Closing ------------------------------------------------------------------------------------

globals.version = '1.5.0e'
globals.newproxy = nil
globals.gcinfo = nil
globals.python = nil
package.loaded.python = nil
if not unrestricted then
  local traceback = debug.traceback
  for name in pairs(debug) do debug[name] = nil end
  debug.traceback = function(...) return traceback(...) end
  debug.getinfo = function(what, ...)
    if type(what) == 'number' then what = what + 1 end
    local info = getinfo(what, ...)
    if info then info.func, info.activelines = nil, nil end
    return info
  end
end

return begin, call, compile, enter, leave, slice, add, extend
