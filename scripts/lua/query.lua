-- Asks a node for the studies of a day and writes them to a file: the smallest use of dicomquery.
--
--   [lua]
--   nightly = command_line = 'PACS1 today studies.json' dofile('lua/query.lua')
--
-- The command line is NODE DATE FILE; DATE is YYYYMMDD, a range, or today. The file has DICOM JSON.

local node, date, file = (command_line or ''):match('^%s*(%S+)%s+(%S+)%s+(%S+)%s*$')
if not node then error('the command line has to be NODE DATE FILE') end

local query = DicomObject:new()
query.StudyDate = date == 'today' and os.date('%Y%m%d') or date
for _, keyword in ipairs({ 'PatientID', 'StudyInstanceUID', 'StudyTime', 'ModalitiesInStudy' }) do
  query[keyword] = ''
end

local answers = dicomquery(node, 'STUDY', query)
if not answers then error(node .. ' does not answer') end
for number = 0, #answers - 1 do
  local study = answers[number]
  print(study.PatientID, study.StudyDate, study.StudyInstanceUID)
end
local out = assert(io.open(file, 'wb'))
out:write(answers:Serialize(true, false, true))
out:close()
