"""The standard libraries `io`, `os`, `package` as scripts may use them (rulings.md 11).

Files are those that rules may touch, programs run without a shell and only where they are allowed;
`LuaUnrestricted` lifts what is about files and opens C modules. What would end or change the
process (`os.exit`, `os.setlocale`) is refused always.
"""

from __future__ import annotations

import logging
import os
import stat
from typing import Final

from dgate.errors import RuleError
from dgate.rules.lua.api import Context, Function, Library, decoded
from dgate.rules.lua.files import run_program

log = logging.getLogger("dgate.lua")


def _place(context: Context) -> Function:
    def place(name: object = None, mode: object = "r") -> str:
        text, files = context.text(name, "the name of the file"), context.env.files
        writes = isinstance(mode, str) and any(letter in mode for letter in "wa+")
        path = files.to_write(text) if writes else files.place(text)
        try:
            mode = path.stat().st_mode
        except OSError:
            # It is not there, or cannot be reached: opening it will tell.
            return str(path)
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            # Opening a named pipe would wait for somebody to write into it.
            raise RuleError(f"{path.name!r} is not an ordinary file")
        return str(path)

    return place


def _there(context: Context, name: object) -> str:
    """Return why a file cannot be removed or renamed, as Lua says it; empty when it can."""
    text = context.text(name, "the name of the file")
    exists = os.path.lexists(context.env.files.place(text))
    return "" if exists else f"{text}: No such file or directory"


def _remove(context: Context) -> Function:
    def remove(name: object = None) -> object:
        text, files = context.text(name, "the name of the file"), context.env.files
        missing = _there(context, name)
        if missing:
            return None, missing
        if files.place(text).is_dir():
            return None, f"{text}: Is a directory"
        files.remove(text)
        return True

    return remove


def _rename(context: Context) -> Function:
    def rename(source: object = None, target: object = None) -> object:
        files = context.env.files
        old, new = context.text(source, "the old name"), context.text(target, "the new name")
        files.place(new)
        missing = _there(context, source)
        if missing:
            return None, missing
        files.rename(old, new)
        return True

    return rename


def _temporary(context: Context) -> Function:
    return lambda *ignored: str(context.env.files.temporary(""))


def _say(context: Context) -> Function:
    return lambda text: log.info("%s", decoded(text).rstrip("\n"))


_SOURCE: Final = r"""
local kit = ...
local native, fail, compile, unrestricted = kit.native, kit.fail, kit.compile, kit.unrestricted
local io, os, package = io, os, package
local type, pcall, error, getmetatable, tostring, select =
  type, pcall, error, getmetatable, tostring, select
local gsub, gmatch, sub, find, concat = string.gsub, string.gmatch, string.sub, string.find,
  table.concat
local open, lines, io_type = io.open, io.lines, io.type
local place = native.place

local file_meta = getmetatable(io.stdout)
file_meta.__index = {
  close = file_meta.close, flush = file_meta.flush, lines = file_meta.lines,
  read = file_meta.read, seek = file_meta.seek, setvbuf = file_meta.setvbuf,
  write = file_meta.write,
}
file_meta.__metatable = false

-- The server has no terminal: what is written there goes to the log, and nothing can be read.
local input, output

local function logged(...)
  local texts = {}
  for number = 1, select('#', ...) do
    local value = select(number, ...)
    if type(value) ~= 'string' and type(value) ~= 'number' then
      fail('only strings and numbers can be written')
    end
    texts[number] = tostring(value)
  end
  native.say(concat(texts))
  return true
end

local terminal = {
  write = function(_, ...) return logged(...) end,
  flush = function() return true end,
  setvbuf = function() return true end,
  close = function() return true end,
}
io.stdout, io.stderr, io.stdin = terminal, terminal, nil

io.open = function(name, mode) return open(place(name, mode), mode) end
io.lines = function(name, ...)
  if name ~= nil then return lines(place(name), ...) end
  if input then return input:lines() end
  return function() return nil end
end
io.input = function(file)
  if type(file) == 'string' then
    local message
    file, message = io.open(file)
    if not file then fail(message) end
  end
  if file ~= nil then input = file end
  return input
end
io.output = function(file)
  if type(file) == 'string' then
    local message
    file, message = open(place(file, 'w'), 'w')
    if not file then fail(message) end
  end
  if file ~= nil then output = file end
  return output or terminal
end
io.read = function(...)
  if input then return input:read(...) end
  return nil
end
io.write = function(...)
  if output then return output:write(...) end
  return logged(...)
end
io.close = function(file)
  if file ~= nil then return file:close() end
  if output then
    local ok, message = output:close()
    output = nil
    return ok, message
  end
  return true
end
io.popen = function()
  fail('io.popen is not offered: start the program by os.execute and have it write a file')
end

os.execute = function(command)
  if command == nil then return 0 end
  return native.execute(command)
end
os.exit = function() fail('os.exit would end the server') end
os.setlocale = function(locale)
  if locale == nil or locale == '' or locale == 'C' then return 'C' end
  return nil
end
os.remove = function(name) return native.remove(name) end
os.rename = function(from, to) return native.rename(from, to) end
os.tmpname = function() return native.temporary() end

local function load_file(path, name)
  local file, message = open(path, 'rb')
  if not file then return nil, message end
  local text = file:read('*a') or ''
  file:close()
  if sub(text, 1, 3) == '\239\187\191' then text = sub(text, 4) end
  if sub(text, 1, 1) == '#' then text = '--' .. text end
  return compile(text, '@' .. name)
end

loadfile = function(name)
  if name == nil then fail('loadfile needs the name of a file') end
  return load_file(place(name), name)
end
dofile = function(name)
  if name == nil then fail('dofile needs the name of a file') end
  local chunk, message = load_file(place(name), name)
  if not chunk then error(message, 0) end
  return chunk()
end

package.path = kit.base_folder .. 'lua/?.lua;' .. kit.base_folder .. '?.lua;./?.lua'
package.loaders[2] = function(module)
  local file_name = gsub(module, '%.', '/')
  local tried = {}
  for template in gmatch(package.path, '[^;]+') do
    local name = gsub(template, '%?', (gsub(file_name, '%%', '%%%%')))
    local allowed, path = pcall(place, name)
    if allowed then
      local file = open(path, 'rb')
      if file then
        file:close()
        local chunk, message = load_file(path, name)
        if not chunk then
          error("error loading module '" .. module .. "':\n\t" .. message, 0)
        end
        return chunk
      end
    end
    tried[#tried + 1] = "\n\tno file '" .. name .. "'"
  end
  return concat(tried)
end
if not unrestricted then
  package.loaders[4], package.loaders[3] = nil, nil
  package.cpath = ''
  package.loadlib = nil
end
"""

LIBRARY: Final = Library(
    natives={
        "place": _place,
        "remove": _remove,
        "rename": _rename,
        "execute": run_program,
        "temporary": _temporary,
        "say": _say,
    },
    source=_SOURCE,
)
