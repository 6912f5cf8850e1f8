-- Puts back what anonymize_script.lua has replaced, in the way of the script of this name for
-- Conquest: UIDs, patient ID, name, birth date and sex. What was emptied or removed stays so.
--
--   ImportConverter0 = lua/deanonymize_script.lua(stage)
--   RetrieveResultConverter0 = lua/deanonymize_script.lua(stage)
--
-- Without a stage, the one without a name. With * the stage is looked up in the register by the
-- patient ID, else by the study; ID and name as they were are then kept in (9999,9000), (9999,9001).
-- An object whose patient the register does not know is refused. Hashed stages have no way back.

local logroot = Global.BaseDir .. 'DicomAnonymized_Log/'

-- Makes one part of a path of a text, whatever it holds.
local function safe(text) return (text:gsub('[%c\\/:*?"<>|]', '_'):gsub('^%.+', '_')) end

local function stage_of(value)
  if (value or '') == '' then return nil end
  local rows = dbquery('UIDMODS', 'Stage', 'NewUID = ?', 'MODTime', { value })
  if not rows then error('the register of replaced values cannot be read', 0) end
  return rows[1] and rows[1][1]
end

-- Returns the stage of the object and says in the object what it was called there.
local function find_stage()
  local stage = stage_of(Data.PatientID) or stage_of(Data.StudyInstanceUID)
  if not stage then return nil end
  Data:SetVR(0x9999, 0x9000, Data.PatientID or '')
  Data:SetVR(0x9999, 0x9001, Data.PatientName or '')
  -- So the register calls the one without a name.
  return stage == '(empty)' and '' or stage
end

-- Returns what stands behind `prefix` in the original of a value, nil when it is not known.
local function original(value, stage, prefix)
  local found = changeuidback(value, stage)
  if found and found:sub(1, #prefix) == prefix then return found:sub(#prefix + 1) end
end

-- Names of files and folders say no more than the anonymised object does.
local function write_log(pid, stage)
  local folder = logroot .. safe(pid) .. '/'
  mkdir(folder)
  local name = folder .. safe(Data.SOPInstanceUID or 'unknown') .. '.deanonymize.log'
  local log, message = io.open(name, 'a')
  if not log then error('the log cannot be written: ' .. tostring(message), 0) end
  log:write(os.date('%Y-%m-%d %H:%M:%S'), ' stage ', stage, ' restored for ', Association.Calling,
    '\n')
  log:close()
end

-- Returns why the object cannot be restored, nil when it is.
local function restore()
  local stage = (command_line or ''):match('^%s*(.-)%s*$')
  if stage == '*' then stage = find_stage() end
  if not stage then return 'no stage has this patient or study' end
  local pid, name = Data.PatientID or '', Data.PatientName or ''
  local id = pid ~= '' and changeuidback(pid, stage)
  if not id then return 'the register does not know the patient' end

  local born = original(pid .. '.bd.' .. (Data.PatientBirthDate or ''), stage, id .. '.bd.')
  local sex = original(pid .. '.ps.', stage, id .. '.ps.')
  local whole_name = name ~= '' and changeuidback(name, stage)
  -- Before anything is put back: nobody gets an original that no log knows of.
  write_log(pid, stage)
  script(stage == '' and 'olduids' or 'olduids stage ' .. stage)
  Data.PatientID = id
  if born then Data.PatientBirthDate = born end
  -- PAT_ was put before a name that was the same as the ID.
  if whole_name then Data.PatientName = whole_name == 'PAT_' .. id and id or whole_name end
  if sex and sex ~= 'UN' and (Data.PatientSex or '') == '' then Data.PatientSex = sex end
end

local ok, message = pcall(restore)
if not ok then
  print('deanonymize_script.lua fails: ' .. tostring(message))
  if gpps('sscscp', 'ScriptErrors', ''):lower() ~= 'ignore' then error(message, 0) end
  Data:Reset()
  reject()
elseif message then
  print('deanonymize_script.lua refuses the object: ' .. message)
  reject()
end
