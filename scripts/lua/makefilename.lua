-- Gives stored files a name of the site's own: MODALITY/YYYYMM/ID/STUDY/SERIESNUMBER_INSTANCE.dcm
--
--   FileNameSyntax = lua:dofile('lua/makefilename.lua')
--
-- The value of the file is the name, below the device. Where it is nil the usual syntax is used.

local function part(value, instead)
  local text = (value or ''):gsub('[^%w.-]', '_'):gsub('^%.+', '_')
  return text ~= '' and text or instead
end

local uid = Data.SOPInstanceUID
if not uid then return nil end
return table.concat({
  part(Data.Modality, 'OT'),
  part((Data.StudyDate or ''):sub(1, 6), '000000'),
  part(Data.PatientID, 'unknown'),
  part(Data.StudyInstanceUID, 'unknown'),
  ('%04d_%s.dcm'):format(tonumber(Data.SeriesNumber or '') or 0, part(uid, 'unknown')),
}, '/')
