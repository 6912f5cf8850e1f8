-- Writes a report about a study once nothing more of it has arrived for a while.
--
--   ExportConverters = 1
--   ExportConverter0 = process study after 60 by lua/study_report.lua %i|%V0020,000d
--
-- The command line is PATIENT|STUDY. The report is reports/STUDY.csv, below the folder of dicom.ini:
-- a line for each series, a line for the whole. Values of the study reach the database as parameters
-- only, so nothing in them is SQL.

local csv = require('csv')

local patient, study = (command_line or ''):match('^(.*)|([%d.]+)%s*$')
if not study then error('the command line has to be PATIENT|STUDY, not ' .. tostring(command_line)) end

local function own_title() return gpps('sscscp', 'MyACRNema', 'DGATE') end

-- What the series are called, asked as any other node would ask.
local function descriptions()
  local query = DicomObject:new()
  query.StudyInstanceUID = study
  query.SeriesInstanceUID, query.SeriesDescription, query.Modality = '', '', ''
  local answers = dicomquery(own_title(), 'SERIES', query)
  local found = {}
  for number = 0, (answers and #answers or 0) - 1 do
    found[answers[number].SeriesInstanceUID] = answers[number].SeriesDescription or ''
  end
  return found
end

local function report()
  local names = descriptions()
  local series = dbquery('DICOMSeries', 'SeriesInst, Modality, SeriesNumb', 'StudyInsta = ?',
    'SeriesNumb, SeriesInst', { study })
  if not series then error('the database does not answer for study ' .. study) end
  local rows = { { 'Series', 'Number', 'Modality', 'Description', 'Images', 'First', 'Last' } }
  local total = 0
  for _, each in ipairs(series) do
    local images = dbquery('DICOMImages', 'ImageNumbe', 'SeriesInst = ?', '', { each[1] })
    local first, last
    for _, image in ipairs(images) do
      local number = tonumber(image[1])
      if number then
        first = math.min(first or number, number)
        last = math.max(last or number, number)
      end
    end
    total = total + #images
    rows[#rows + 1] = {
      each[1], each[3], each[2], names[each[1]] or '', #images, first or '', last or '',
    }
  end
  rows[#rows + 1] = { study, '', '', patient, total, '', '' }
  mkdir('reports')
  csv.write('reports/' .. study .. '.csv', rows)
  print(('study %s: %d series, %d images'):format(study, #series, total))
end

report()
