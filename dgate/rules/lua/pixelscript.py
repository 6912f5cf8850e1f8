"""The Lua side of `GetPixel` and its like: one frame at a time as Lua tables (rulings.md 13).

A loop over all pixels of a 512 x 512 image calls Python once for reading and once for writing. The
Python side is `dgate.rules.lua.pixels`.
"""

from __future__ import annotations

from typing import Final

SOURCE: Final = r"""
local kit = ...
local native, methods, fail, favour = kit.native, kit.methods, kit.fail, kit.favour
local byte, char = string.byte, string.char
local concat, sort = table.concat, table.sort
local floor = math.floor
local type, tonumber, pairs = type, tonumber, pairs
local setmetatable, rawget, rawset, globals = setmetatable, rawget, rawset, _G

local CHUNK = 4000    -- bytes that string.byte may return at once
local MOST = 4000000  -- values that are kept as tables

-- The one frame that is open. `mono` are its rows where a pixel is one value, else nothing.
local cur, frame, rows, mono, width, height, samples, size, most
-- Rows that were written to, by number, and the last of them; rows that had to be packed again.
local dirty, dirty_row, packed
local data, kept, told
-- Numbers that are known to fit into a cell as they are, by its size: one look instead of four.
local known, fits = { {}, {}, {}, {} }, {}

local function forget()
  if cur then favour(nil) end
  cur, rows, mono, dirty, dirty_row, packed, data = nil, nil, nil, nil, nil, nil, nil
end

-- Bytes of a value, made once for each.
local one = setmetatable({}, { __index = function(t, v)
  local made = char(v)
  t[v] = made
  return made
end })
local two = setmetatable({}, { __index = function(t, v)
  local low = v % 256
  local made = char(low, (v - low) / 256)
  t[v] = made
  return made
end })
local function four(v)
  if v < 0 then v = v + 4294967296 end
  local b0 = v % 256; v = (v - b0) / 256
  local b1 = v % 256; v = (v - b1) / 256
  local b2 = v % 256
  return char(b0, b1, b2, (v - b2) / 256)
end

-- Eight values at a time: a call for each, or a string, would take most of the time.
local function pack(row, count)
  local parts, n, i = {}, 0, 0
  while size < 4 and i <= count - 8 do
    local a, b, c, d, e, f, g, h = row[i], row[i + 1], row[i + 2], row[i + 3],
      row[i + 4], row[i + 5], row[i + 6], row[i + 7]
    n = n + 1
    if size == 2 then
      parts[n] = two[a] .. two[b] .. two[c] .. two[d] .. two[e] .. two[f] .. two[g] .. two[h]
    else
      parts[n] = char(a, b, c, d, e, f, g, h)
    end
    i = i + 8
  end
  local text = size == 2 and two or one
  for k = i, count - 1 do
    n = n + 1
    parts[n] = size == 4 and four(row[k]) or text[row[k]]
  end
  return concat(parts)
end

-- Returns the values that lie from a byte on, from index 0. The table begins with room for them:
-- one that grows with each value would be copied again and again.
local function unpacked(text, first, count)
  local row, at, k = {}, first, 0
  if count > 1 and count <= CHUNK then row = { byte(text, at, at + count - 2) } end
  if size == 2 then
    while k <= count - 8 do
      local a, b, c, d, e, f, g, h, i, j, l, m, n, o, p, q = byte(text, at, at + 15)
      row[k], row[k + 1], row[k + 2], row[k + 3] =
        a + 256 * b, c + 256 * d, e + 256 * f, g + 256 * h
      row[k + 4], row[k + 5], row[k + 6], row[k + 7] =
        i + 256 * j, l + 256 * m, n + 256 * o, p + 256 * q
      k, at = k + 8, at + 16
    end
    for place = k, count - 1 do
      local low, high = byte(text, at, at + 1)
      row[place] = low + 256 * high
      at = at + 2
    end
  elseif size == 1 then
    while k <= count - 8 do
      row[k], row[k + 1], row[k + 2], row[k + 3], row[k + 4], row[k + 5], row[k + 6], row[k + 7] =
        byte(text, at, at + 7)
      k, at = k + 8, at + 8
    end
    for place = k, count - 1 do row[place] = byte(text, first + place) end
  else
    for place = 0, count - 1 do
      local a, b, c, d = byte(text, at, at + 3)
      local v = a + 256 * b + 65536 * c + 16777216 * d
      if v >= 2147483648 then v = v - 4294967296 end
      row[place] = v
      at = at + 4
    end
  end
  return row
end

-- Gives up the tables of all rows; what was written is kept as bytes.
local function make_room()
  for y, row in pairs(rows) do
    if dirty[y] then packed[y] = pack(row, width * samples) end
    rows[y] = nil
  end
  dirty_row, kept = nil, 0
end

local function load_row(t, y)
  if type(y) ~= 'number' or y < 0 or y >= height or y % 1 ~= 0 then return nil end
  local count = width * samples
  if kept + count > MOST then make_room() end
  kept = kept + count
  local text = packed[y]
  local row = text and unpacked(text, 1, count) or unpacked(data, y * count * size + 1, count)
  rawset(t, y, row)
  return row
end
local lazy = { __index = load_row }

-- Called by Python before anybody looks at the object: what is to be written, and the frame is
-- closed.
local function flush()
  local numbers, parts = {}, {}
  for y in pairs(dirty) do numbers[#numbers + 1] = y end
  sort(numbers)
  for i, y in pairs(numbers) do
    -- A row that is loaded is newer than its bytes.
    local row = rawget(rows, y)
    parts[i] = row and pack(row, width * samples) or packed[y]
  end
  local number = frame
  forget()
  return number, concat(numbers, ','), concat(parts)
end

local function whole(value, what)
  local number = tonumber(value)
  if not number then fail(what .. ' is not a number') end
  if number ~= number or number - number ~= 0 then fail(what .. ' is not finite') end
  if number % 1 ~= 0 then number = number < 0 and -floor(-number) or floor(number) end
  return number
end

-- Opens a frame of an object; false when there is none.
local function open(object, number)
  number = number == nil and 0 or whole(number, 'the frame')
  if object == cur and number == frame then return true end
  if cur then
    native.settle(cur)
    forget()
  end
  local found, w, h, n, s = native.frame(object, number)
  if not found then return false end
  cur, frame, data, width, height, samples, size = object, number, found, w, h, n, s
  most = size == 1 and 255 or size == 2 and 65535 or 2147483647
  dirty, packed, dirty_row, kept, told = {}, {}, nil, 0, false
  fits = known[size]
  rows = setmetatable({}, lazy)
  mono = samples == 1 and rows or {}
  native.arm(object, flush)
  favour(object)
  return true
end

-- Returns what a cell holds of a value: cut to an integer, wrapped around.
local function cell(value)
  local number = whole(value, 'a pixel')
  if size == 4 then
    number = number % 4294967296
    return number >= 2147483648 and number - 4294967296 or number
  end
  return number % (most + 1)
end

local function written(y, row)
  dirty[y] = true
  dirty_row = row
  if not told then
    told = true
    native.touch(cur)
  end
end

local function GetPixel(object, x, y, number)
  if object == cur and (not number or number == frame) then
    local row = mono[y]
    local value = row and row[x]
    if value then return value end
  end
  if not open(object, number) then return end
  x, y = whole(x, 'x'), whole(y, 'y')
  local row = rows[y]
  if not row or x < 0 or x >= width then return end
  if samples == 1 then return row[x] end
  local at = x * samples
  if samples == 3 then return row[at], row[at + 1], row[at + 2] end
  if samples == 2 then return row[at], row[at + 1] end
  return row[at], row[at + 1], row[at + 2], row[at + 3]
end

-- Not `...`: a call that takes any number of values costs half as much again.
local function SetPixel(object, x, y, number, value, second, third, fourth)
  if object == cur and number == frame and fits[value] then
    local row = mono[y]
    if row and row[x] then
      row[x] = value
      if row ~= dirty_row then written(y, row) end
      return
    end
  end
  if not open(object, number) then return end
  x, y = whole(x, 'x'), whole(y, 'y')
  local row = rows[y]
  if not row or x < 0 or x >= width then return end
  local kept_as = cell(value)
  if size < 4 and kept_as == value then fits[value] = true end
  row[x * samples] = kept_as
  local others = { second, third, fourth }
  for n = 1, samples - 1 do
    if others[n] ~= nil then row[x * samples + n] = cell(others[n]) end
  end
  written(y, row)
end

local function GetRow(object, y, number)
  if not open(object, number) then return end
  local row = rows[whole(y, 'y')]
  if not row then return end
  local copy = {}
  for i = 0, width * samples - 1 do copy[i] = row[i] end
  return copy
end

local function GetColumn(object, x, number)
  if not open(object, number) then return end
  x = whole(x, 'x')
  if x < 0 or x >= width then return end
  local column, k = {}, 0
  for y = 0, height - 1 do
    local row = rows[y]
    for n = 0, samples - 1 do column[k] = row[x * samples + n]; k = k + 1 end
  end
  return column
end

local function SetRow(object, y, number, values)
  if type(values) ~= 'table' then fail('the last argument must be a table of pixels') end
  if not open(object, number) then return end
  y = whole(y, 'y')
  local row = rows[y]
  if not row then return end
  for i = 0, width * samples - 1 do
    local value = values[i]
    row[i] = value == nil and 0 or cell(value)
  end
  written(y, row)
end

local function SetColumn(object, x, number, values)
  if type(values) ~= 'table' then fail('the last argument must be a table of pixels') end
  if not open(object, number) then return end
  x = whole(x, 'x')
  if x < 0 or x >= width then return end
  local k = 0
  for y = 0, height - 1 do
    local row = rows[y]
    for n = 0, samples - 1 do
      local value = values[k]
      row[x * samples + n] = value == nil and 0 or cell(value)
      k = k + 1
    end
    written(y, row)
  end
end

methods.GetPixel, methods.SetPixel = GetPixel, SetPixel
methods.GetRow, methods.SetRow = GetRow, SetRow
methods.GetColumn, methods.SetColumn = GetColumn, SetColumn
globals.getpixel, globals.setpixel = kit.optional(GetPixel), kit.optional(SetPixel)
globals.getrow, globals.setrow = kit.optional(GetRow), kit.optional(SetRow)
globals.getcolumn, globals.setcolumn = kit.optional(GetColumn), kit.optional(SetColumn)
"""
