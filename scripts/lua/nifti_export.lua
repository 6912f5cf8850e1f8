-- Writes a series as a NIfTI-1 file once it has arrived, for programs of research.
--
--   ExportConverters = 1
--   ExportConverter0 = ifequal "%m", "MR"; process series after 30 by lua/nifti_export.lua %V0020,000e
--
-- The command line is the Series Instance UID; the file is nifti/SERIES.nii. Slices with one value in
-- each pixel, of 16 bits, all of the same size. They are sorted by where they lie, and the file says
-- where that is (sform; NIfTI counts x and y the other way round than DICOM).

require('pack')

local series = (command_line or ''):match('^%s*([%d.]+)%s*$')
if not series then error('the command line has to be a Series Instance UID') end

local function numbers(text, count, default)
  local found = {}
  for number in ((text or '') .. '\\'):gmatch('([^\\]*)\\') do
    found[#found + 1] = tonumber(number)
  end
  return #found == count and found or default
end

local query = newdicomobject()
query.SeriesInstanceUID = series
local objects = dicomread(query)
if #objects == 0 then error('there is no series ' .. series) end

local first = objects[0]
local columns, rows = tonumber(first.Columns), tonumber(first.Rows)
local direction = numbers(first.ImageOrientationPatient, 6, { 1, 0, 0, 0, 1, 0 })
local spacing = numbers(first.PixelSpacing, 2, { 1, 1 })
local normal = {
  direction[2] * direction[6] - direction[3] * direction[5],
  direction[3] * direction[4] - direction[1] * direction[6],
  direction[1] * direction[5] - direction[2] * direction[4],
}

local slices = {}
for number = 0, #objects - 1 do
  local object = objects[number]
  if tonumber(object.Columns) ~= columns or tonumber(object.Rows) ~= rows
    or tonumber(object.BitsAllocated) ~= 16 or tonumber(object.SamplesPerPixel) ~= 1 then
    error('the images of series ' .. series .. ' do not fit together')
  end
  local position = numbers(object.ImagePositionPatient, 3, { 0, 0, number })
  local place = position[1] * normal[1] + position[2] * normal[2] + position[3] * normal[3]
  slices[#slices + 1] = { place = place, position = position, object = object }
end
table.sort(slices, function(a, b) return a.place < b.place end)
local step = tonumber(first.SliceThickness or '') or 1
if #slices > 1 then step = (slices[#slices].place - slices[1].place) / (#slices - 1) end

local function axis(at, one, factor) return direction[at] * factor * one end
local origin = slices[1].position
local function row(at, one)
  return string.pack('<f4', axis(at, one, spacing[2]), axis(at + 3, one, spacing[1]),
    normal[at] * step * one, origin[at] * one)
end
local code = tonumber(first.PixelRepresentation or '') == 1 and 4 or 512

local header = table.concat({
  string.pack('<i', 348), ('\0'):rep(36),
  string.pack('<h8', 3, columns, rows, #slices, 1, 1, 1, 1), ('\0'):rep(14),
  string.pack('<h3', code, 16, 0),
  string.pack('<f8', 1, spacing[2], spacing[1], math.abs(step), 0, 0, 0, 0),
  string.pack('<f3', 352, tonumber(first.RescaleSlope or '') or 1,
    tonumber(first.RescaleIntercept or '') or 0),
  string.pack('<h', 0), '\0\2',
  ('\0'):rep(128), string.pack('<h2', 0, 1), ('\0'):rep(24),
  row(1, -1), row(2, -1), row(3, 1),
  ('\0'):rep(16), 'n+1\0', ('\0'):rep(4),
})
assert(#header == 352, 'the header of a NIfTI file has 352 bytes')
local next_place, size = string.unpack(header, '<i')
assert(next_place == 5 and size == 348)

mkdir('nifti')
local name = 'nifti/' .. series .. '.nii'
local out = assert(io.open(name .. '.new', 'wb'))
out:write(header)
for _, slice in ipairs(slices) do out:write(slice.object:GetImage(0)) end
out:close()
assert(os.rename(name .. '.new', name))
print(('series %s: %d slices written as NIfTI'):format(series, #slices))
