-- Anonymises the object for a trial, in the way of the script of this name for Conquest.
--
--   ImportConverter0 = lua/anonymize_script.lua
--   ImportConverter0 = lua/anonymize_script.lua(newid|stage|newname)
--   ExportConverter0 = forward to TRIAL script lua/anonymize_script.lua(|trial7)
--
-- newid, newname: patient ID and name to use. Each part may be empty or left out.
-- stage: a name of its own for each trial. What is replaced is kept in the table UIDMODS under this
--   name, and deanonymize_script.lua puts it back; with a # in front everything is calculated,
--   nothing is kept and nothing can be put back.
--
-- The file STAGE.cfg beside dicom.ini may set what is below as DEFAULTS; it is Lua.
-- Where anything goes wrong the object is refused: nothing half anonymised is stored or sent.
--
-- This script is not the profile of PS3.15: dates, descriptions and private elements stay. For that
-- there is the statement `deidentify`.

local DEFAULTS = {
  -- Only told in the log.
  TagsToPrint = {
    'FrameOfReferenceUID', 'StudyInstanceUID', 'SeriesInstanceUID', 'SOPInstanceUID', 'Modality',
    'BodyPartExamined', 'Manufacturer', 'ManufacturerModelName', 'StudyDate', 'StudyTime',
    'SeriesNumber', 'ImageID',
  },
  TagsToModify = { 'PatientID', 'PatientName', 'PatientBirthDate', 'PatientSex' },
  -- Made empty; made if they are not there. Here and below: keywords, or groups as four hex digits.
  TagsToEmpty = {
    'AccessionNumber', 'InstitutionName', 'ReferringPhysicianName', 'PerformingPhysicianName',
    'StudyID',
  },
  TagsToRemove = {
    'InstanceCreatorUID', 'InstitutionAddress', 'ReferringPhysicianAddress',
    'ReferringPhysicianTelephoneNumbers', 'StationName', 'StudyDescription',
    'InstitutionalDepartmentName', 'PhysiciansOfRecord', 'NameOfPhysiciansReadingStudy',
    'OperatorsName', 'AdmittingDiagnosesDescription', 'DerivationDescription', 'OtherPatientIDs',
    'OtherPatientNames', 'PatientAge', 'PatientSize', 'PatientWeight', 'MedicalRecordLocator',
    'EthnicGroup', 'Occupation', 'AdditionalPatientHistory', 'DeviceSerialNumber', 'ProtocolName',
    'ImageComments', 'RequestAttributesSequence', 'ContentSequence', 'StorageMediaFileSetUID',
    'PatientInsurancePlanCodeSequence', 'PatientBirthName', 'PatientAddress',
    'InsurancePlanIdentification', 'PatientMotherBirthName', 'MilitaryRank', 'BranchOfService',
    'RegionOfResidence', 'PatientTelephoneNumbers', 'PatientComments', 'StudyComments',
    'ScheduledPerformingPhysicianName', 'PerformingPhysicianIdentificationSequence',
    'OtherPatientIDsSequence', 'FillerOrderNumberImagingServiceRequest',
  },
  -- A list turns things round: all that it does not name goes.
  TagsToKeep = false,
  MaintainAge = false,      -- true: of the birth date the year stays
  MaintainSex = false,      -- true: sex stays
  reversible = true,        -- false: ID, name, birth date and sex are not kept in UIDMODS
  logroot = Global.BaseDir .. 'DicomAnonymized_Log/',
  -- The original values, which tell who the patient is, are not written unless a trial wants that.
  logoriginal = false,
  logmodified = true,
  lognames = false,         -- true: names, too, in what logoriginal writes
}

-- The name of a log has new values only: `pid` is the new patient ID.
function DEFAULTS.logname(object, stage, pid)
  return table.concat({
    stage, pid, object.StudyDate or '19700101', object.Modality or 'UN',
    object.SOPInstanceUID or 'unknown',
  }, '_') .. '.log'
end

-- Makes one part of a path of a text, whatever it holds.
local function safe(text) return (text:gsub('[%c\\/:*?"<>|]', '_'):gsub('^%.+', '_')) end

-- Arguments and configuration ---------------------------------------------------------------------

local function arguments()
  local parts = {}
  for part in ((command_line or '') .. '|'):gmatch('([^|]*)|') do
    parts[#parts + 1] = part:match('^%s*(.-)%s*$')
  end
  local stage = parts[2] or ''
  -- The stage names a file of Lua code and a column of the register, so it cannot be just anything.
  if stage ~= '' and (#stage > 32 or not stage:find('^#?%w[%w _.-]*$')) then
    error('the stage has to be of letters, digits, blank and _ . -, not ' .. stage, 0)
  end
  return parts[1], stage, parts[3] or ''
end

local function configuration(stage)
  local chosen = {}
  local settings = setmetatable({}, {
    __index = function(_, name)
      if chosen[name] ~= nil then return chosen[name] end
      if DEFAULTS[name] ~= nil then return DEFAULTS[name] end
      return _G[name]
    end,
    __newindex = chosen,
  })
  local name = Global.BaseDir .. stage:gsub('^#', '') .. '.cfg'
  local file = stage ~= '' and io.open(name, 'rb')
  if file then
    local text = file:read('*a')
    file:close()
    local chunk, message = loadstring(text, '@' .. name)
    if not chunk then error(message, 0) end
    setfenv(chunk, settings)()
  end
  if stage:sub(1, 1) == '#' then chosen.reversible = false end
  return settings
end

-- Lists of elements -------------------------------------------------------------------------------

local function is_group(entry) return entry:find('^%x%x%x%x$') ~= nil end

local function check(list)
  for _, entry in ipairs(list or {}) do
    if not is_group(entry) and not dictionary(entry) then
      error(entry .. ' is neither a keyword of the dictionary nor a group', 0)
    end
  end
end

-- Returns keyword, VR, group, element of each element of Data.
local function elements()
  local columns = {}
  for number, text in ipairs({ Data:ListItems() }) do
    local column = {}
    for part in (text .. '|'):gmatch('([^|]*)|') do column[#column + 1] = part end
    columns[number] = column
  end
  local found = {}
  for place, group in ipairs(columns[3]) do
    if group ~= '' then
      found[place] = {
        keyword = columns[1][place], vr = columns[2][place],
        group = tonumber(group), element = tonumber(columns[4][place]),
      }
    end
  end
  return found
end

-- Calls `work` with the keyword of each element that a list means. Of a group, those that are there.
local function each(list, work)
  for _, entry in ipairs(list) do
    if not is_group(entry) then
      work(entry)
    else
      for _, item in ipairs(elements()) do
        if item.group == tonumber(entry, 16) and item.element ~= 0 and item.keyword ~= '' then
          work(item.keyword)
        end
      end
    end
  end
end

local function remove(keyword) Data[keyword] = nil end

local function make_empty(keyword)
  local group, element = dictionary(keyword)
  if type(Data[keyword]) == 'userdata' then
    Data[keyword] = nil
    Data[keyword] = {}
  else
    Data:SetVR(group, element, '')
  end
end

local function keep_only(list)
  -- Without its character set no text could be read any more.
  local keywords, groups = { SpecificCharacterSet = true }, {}
  for _, entry in ipairs(list) do
    if is_group(entry) then groups[tonumber(entry, 16)] = true else keywords[entry] = true end
  end
  for _, item in ipairs(elements()) do
    if not groups[item.group] and not keywords[item.keyword] then
      Data[('%04x,%04x'):format(item.group, item.element)] = nil
    end
  end
end

-- Log ---------------------------------------------------------------------------------------------

local function shown(keyword)
  local value = Data[keyword]
  return type(value) == 'userdata' and tostring(value) or value
end

local function describe(lines, lists, names)
  for _, list in ipairs(lists) do
    each(list, function(keyword)
      local value = shown(keyword)
      if value ~= nil then
        if not names and keyword:find('Name') and value ~= '' then value = '*** not shown ***' end
        lines[#lines + 1] = keyword .. ': ' .. value
      end
    end)
  end
end

local function write_log(settings, stage, pid, lines)
  local folder = settings.logroot .. safe(pid) .. '/'
  mkdir(folder)
  local name = folder .. safe(settings.logname(Data, stage, pid))
  local file, message = io.open(name, 'a')
  if not file then error('the log cannot be written: ' .. tostring(message), 0) end
  file:write(table.concat(lines, '\n'), '\n')
  file:close()
end

-- Patient -----------------------------------------------------------------------------------------

-- Returns ID and name as they are to become, before the register has its say.
local function wanted(newid, stage, newname, id)
  local given = Data:GetVR(0x9999, 0x1234, true)
  Data['9999,1234'] = nil
  -- The dictionary does not know the element, so whatever fills it up to an even length is there.
  given = given and given:gsub('[%z ]+$', '')
  if given == '' then given = nil end
  local name = newname
  if name == '' and stage ~= '' and newid ~= '' then name = 'PAT_' .. newid end
  if name == '' then name = given or 'PAT' .. crc(id) end
  if newid == '' then newid = given or crc(id) .. '.' .. crc(Data.PatientBirthDate or '') end
  return newid, name
end

local function replace_patient(settings, newid, stage, newname)
  local id, name = Data.PatientID or '', Data.PatientName or ''
  local pid, pname = wanted(newid, stage, newname, id)
  if settings.reversible then
    -- What the register has for this patient already counts more.
    pid = changeuid(id, pid, stage, 'PatientID')
    -- ID and name would have one replacement in common if they were the same.
    pname = changeuid(name == id and name ~= '' and 'PAT_' .. name or name, pname, stage,
      'PatientName')
  else
    if id == '' then pid = '' end
    if name == '' then pname = '' end
  end
  if newid ~= '' and pid ~= newid and id ~= '' then
    print('the register has another ID for this patient in stage ' .. stage .. ': it stays ' .. pid)
  end
  Data.PatientID, Data.PatientName = pid, pname

  local born = Data.PatientBirthDate or ''
  if born ~= '' then
    local date = settings.MaintainAge and born:sub(1, 4) .. '0101' or ''
    if settings.reversible and id ~= '' then
      changeuid(id .. '.bd.' .. born, pid .. '.bd.' .. date, stage, 'PatientBirthDate')
    end
    Data.PatientBirthDate = date
  end
  local sex = Data.PatientSex or ''
  if not settings.MaintainSex and sex ~= '' then
    if settings.reversible and id ~= '' then
      changeuid(id .. '.ps.' .. sex, pid .. '.ps.', stage, 'PatientSex')
    end
    Data.PatientSex = ''
  end
  return pid
end

-- All of it ---------------------------------------------------------------------------------------

local function anonymize()
  local newid, stage, newname = arguments()
  local settings = configuration(stage)
  local lists = { settings.TagsToPrint, settings.TagsToModify, settings.TagsToEmpty,
    settings.TagsToRemove }
  for _, list in ipairs(lists) do check(list) end
  if settings.TagsToKeep then check(settings.TagsToKeep) end

  local lines = {}
  if settings.logoriginal then
    lines[1] = '===== ORIGINAL'
    describe(lines, lists, settings.lognames)
  end
  script(stage == '' and 'newuids' or 'newuids stage ' .. stage)
  local pid = replace_patient(settings, newid, stage, newname)
  if settings.TagsToKeep then keep_only(settings.TagsToKeep) end
  each(settings.TagsToEmpty, make_empty)
  each(settings.TagsToRemove, remove)
  if settings.logmodified then
    lines[#lines + 1] = '===== MODIFIED'
    lines[#lines + 1] = 'Stage: ' .. stage
    -- The new name is no secret.
    describe(lines, lists, true)
  end
  if #lines > 0 then write_log(settings, stage, pid, lines) end
end

local ok, message = pcall(anonymize)
if not ok then
  print('anonymize_script.lua refuses the object: ' .. tostring(message))
  if gpps('sscscp', 'ScriptErrors', ''):lower() ~= 'ignore' then error(message, 0) end
  -- An error alone would let the object pass as far as it was changed.
  Data:Reset()
  reject()
end
