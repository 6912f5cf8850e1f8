-- Tells for each object that arrives how small codes would make it, and whether they bring back the
-- same pixels. The object is stored as it came.
--
--   ImportConverter0 = lua/compression_check.lua
--
-- A line in compression.csv for each code: instance, code, bytes, milliseconds, result.

local csv = require('csv')
local CODES = { 'un', 'rl', 'ui' }

local function size_of(object)
  local name = tempfile('.dcm')
  object:Write(name)
  local file = assert(io.open(name, 'rb'))
  local size = file:seek('end')
  file:close()
  os.remove(name)
  return size
end

local plain = Data:Compress('un')
if not plain or not Data.PixelData then return end
local image = plain:GetImage(0)
local out = assert(io.open('compression.csv', 'ab'))
for _, code in ipairs(CODES) do
  local start = tickcount()
  local made = plain:Compress(code)
  local spent = tickcount() - start
  local result, size = 'not possible', ''
  if made then
    local back = made:Compress('un')
    result = back and back:GetImage(0) == image and 'same' or 'different'
    size = size_of(made)
  end
  out:write(csv.line({ Data.SOPInstanceUID, code, size, spent, result }))
end
out:close()
debuglog(heapinfo())
