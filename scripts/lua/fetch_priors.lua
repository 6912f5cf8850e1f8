-- Gets earlier studies of a patient from another archive and passes them on to a workstation.
--
--   ExportConverters = 1
--   ExportConverter0 = process study after 10 by lua/fetch_priors.lua OLDPACS WORKSTATION1 %i|%V0020,000d
--
-- The command line is SOURCE DESTINATION PATIENT|STUDY. Objects that are here already are not asked for;
-- those that were got are stored without running the rules again, and marked as priors.

local source, destination, patient, study =
  (command_line or ''):match('^%s*(%S+)%s+(%S+)%s+(.-)|([%d.]+)%s*$')
if not source then error('the command line has to be SOURCE DESTINATION PATIENT|STUDY') end
-- A wildcard would mean other patients as well.
if patient == '' or patient:find('[*?\\]') then return end

local function is_here(uid)
  local rows = dbquery('DICOMStudies', 'StudyInsta', 'StudyInsta = ?', '', { uid })
  return rows and #rows > 0
end

local query = DicomObject:new('{"PatientID": "", "StudyInstanceUID": ""}')
query.PatientID = patient
local studies = dicomquery2(source, 'STUDY', query)
if not studies then error(source .. ' does not answer') end

local priors = DicomObject:newarray()
for number = 0, #studies - 1 do
  local uid = studies[number].StudyInstanceUID
  if uid and uid ~= study and not is_here(uid) then
    local wanted = query:Copy()
    wanted.StudyInstanceUID = uid
    local objects = dicomget(source, 'STUDY', wanted) or DicomObject:newarray()
    for place = 0, #objects - 1 do
      local object = objects[place]
      object.ImageComments = 'prior of ' .. study
      object:AddImage()
      priors:Add(object)
    end
  end
end
if #priors > 0 then
  local answers = dicomstore(destination, priors)
  if type(answers) == 'string' then error(destination .. ': ' .. answers) end
  local sent = 0
  for number = 0, #answers - 1 do
    if answers[number].Status == '0' then sent = sent + 1 end
  end
  print(('%d of %d priors sent to %s'):format(sent, #priors, destination))
end
priors:free()
