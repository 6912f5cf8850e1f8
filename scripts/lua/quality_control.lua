-- Looks at each image before it is stored: refuses what cannot be right, leaves out what is empty,
-- corrects what can be corrected.
--
--   ImportConverter0 = lua/quality_control.lua
--   RejectedImageConverter0 = lua/quality_control.lua(retry)
--
-- As the second rule it gets objects that the index has refused, because their study, series or instance
-- belongs to another patient. They get UIDs of their own, always the same ones for a patient, and are
-- tried again; UIDs of the stage #... are calculated, so nothing is kept about them.

if command_line == 'retry' then
  Data.ImageComments = 'stored with new UIDs: study ' .. (Data.StudyInstanceUID or '')
  script('newuids stage #' .. crc32(Data.PatientID or ''))
  retry()
  return
end

-- How much the middle row of the image differs, and its mean.
local function statistics()
  local row = Data:GetRow(math.floor(tonumber(Data.Rows) / 2))
  if not row then return nil end
  local count = #row + 1          -- The first index is 0.
  local low, high, sum = row[0], row[0], 0
  for number = 0, count - 1 do
    low, high, sum = math.min(low, row[number]), math.max(high, row[number]), sum + row[number]
  end
  return high - low, sum / count
end

local function check()
  if (Data.PatientID or '') == '' then return 'has no patient ID' end
  local date = Data.StudyDate or ''
  if date ~= '' and date > os.date('%Y%m%d', os.time() + 86400) then return 'is of the future' end
  local pixels = Data.PixelData and Data.Rows
  if not pixels then return nil end
  local x, y = math.floor(Data.Columns / 2), math.floor(Data.Rows / 2)
  local spread = statistics()
  if spread == 0 and Data:GetPixel(x, y) == 0 then
    local column = Data:GetColumn(x)
    for number = 0, #column do
      if column[number] ~= 0 then return nil end
    end
    print('an empty image is left out')
    destroy()
  end
end

local fault = check()
if fault then
  print('instance ' .. tostring(Data.SOPInstanceUID) .. ' ' .. fault)
  reject()
end
