-- Ends the part of subjects in a trial: removes their objects, or marks or copies them before.
--
--   ExportConverter0 = process patient after 60 by lua/trial_remove.lua withdrawn.csv
--   [lua]
--   nightly = command_line = 'withdrawn.csv' dofile('lua/trial_remove.lua')
--
-- The file has the columns PatientID (as stored here), Action and Text. Action is one of
--   delete   everything of the patient is deleted
--   study    the study whose UID is in Text is deleted
--   mark     the objects get Text as ClinicalTrialProtocolName
--   copy     copies with new UIDs and Text as patient ID are stored beside the objects
-- What was done is written to FILE.done and is not done again.

local csv = require('csv')

local file = (command_line or ''):match('^%s*(%S+)%s*$')
if not file then error('the command line has to be the name of the file') end
local orders = csv.records(file)
if not orders then return end

-- All four elements have to be there, empty ones mean any.
local function of_patient(id, study)
  local keys = newdicomobject()
  keys.PatientID, keys.StudyInstanceUID = id, study or ''
  keys.SeriesInstanceUID, keys.SOPInstanceUID = '', ''
  return keys
end

-- Text becomes part of a statement: nothing in it may end that.
local function plain(text)
  if text == '' or text:find('[^%w ._^-]') then error('Text has to be letters and digits: ' .. text) end
  return text
end

local actions = {
  delete = function(id) dicomdelete(of_patient(id)) end,
  study = function(id, text) newdicomdelete(of_patient(id, text)) end,
  mark = function(id, text)
    newdicommodify(of_patient(id), 'set ClinicalTrialProtocolName to "' .. plain(text) .. '"')
  end,
  copy = function(id, text)
    newdicomcopy(of_patient(id), 'newuids stage copies; set PatientID to "' .. plain(text) .. '"')
  end,
}

local function key(order) return order.PatientID .. '|' .. order.Action .. '|' .. order.Text end

local log = file .. '.done'
local done = {}
for _, row in ipairs(csv.read(log) or {}) do done[row[1]] = true end
for number, order in ipairs(orders) do
  local action = actions[order.Action]
  if not action or (order.PatientID or '') == '' then
    error(file .. ' row ' .. number + 1 .. ': there is no such action, or no patient')
  end
  if not done[key(order)] then
    action(order.PatientID, order.Text or '')
    local out = assert(io.open(log, 'ab'))
    out:write(csv.line({ key(order), os.date('%Y-%m-%d %H:%M:%S') }))
    out:close()
    print(order.Action .. ' of a subject as ' .. file .. ' row ' .. number + 1 .. ' asks for')
  end
end
