-- Blackens the rows where ultrasound and screen captures show who the patient is.
--
--   ImportModality0 = US
--   ImportConverter0 = lua/screen_filter.lua
--
-- AREAS has, by maker and model as patterns, the rows and columns to be blackened, counted from 0.
-- An object whose device is not known is refused, since what is written in it is not known either.

local AREAS = {
  { maker = '^Example', model = '.', rows = { 0, 3 }, columns = {} },
  { maker = '^Sonic', model = '^S%d', rows = { 0, 39 }, columns = { 600, 639 } },
}

local function area()
  for _, each in ipairs(AREAS) do
    if (Data.Manufacturer or ''):find(each.maker)
      and (Data.ManufacturerModelName or ''):find(each.model) then
      return each
    end
  end
end

local function black(count)
  local values = {}
  for number = 0, count - 1 do values[number] = 0 end
  return values
end

local found = area()
if not found then
  print('no rows are known for ' .. tostring(Data.ManufacturerModelName))
  reject()
  return
end
if not Data.PixelData then return end

local samples = tonumber(Data.SamplesPerPixel or '') or 1
local rows, columns = tonumber(Data.Rows), tonumber(Data.Columns)
local row, column = black(columns * samples), black(rows * samples)
for frame = 0, (tonumber(Data.NumberOfFrames or '') or 1) - 1 do
  for y = found.rows[1] or 0, math.min(found.rows[2] or -1, rows - 1) do
    Data:SetRow(y, frame, row)
  end
  for x = found.columns[1] or 0, math.min(found.columns[2] or -1, columns - 1) do
    Data:SetColumn(x, frame, column)
  end
end
-- GetRow counts from 0, as SetRow does.
assert(Data:GetRow(found.rows[1] or 0)[0] == 0 or not found.rows[1])
Data.BurnedInAnnotation = 'NO'
