-- Brings the objects of an old scanner into the form that the archive and the viewers expect.
--
--   ImportCallingAE0 = OLDMR
--   ImportConverter0 = lua/morph_vendor.lua
--
-- The scanner writes names as "DOE, JANE", leaves out station and age, hides the b-value in a
-- private element, and puts every order into one text. What it does to each is said below.

local VENDOR = 'OLDMR MEDICAL'      -- The private creator of the scanner.
local OURS = 'DGATE SITE NOTES'     -- The private creator of what is added here.

-- DOE, JANE  ->  DOE^JANE
local function repair_name()
  local name = Data.PatientName or ''
  -- No honest name is longer, and a pattern takes its time over what is sent to annoy.
  if #name > 1000 then return end
  local family, given = name:match('^%s*([^,^]+),%s*(.-)%s*$')
  if family then Data.PatientName = family .. '^' .. given end
end

-- Leading blanks and the prefix of the scanner are no part of the ID.
local function repair_id()
  local id = (Data.PatientID or ''):gsub('^%s+', ''):gsub('^MR%-', '')
  if id == '' then
    reject()
    return false
  end
  Data.PatientID = id
  return true
end

-- Age in full years at the time of the study, as PS3.5 writes it: 056Y.
local function add_age()
  local born, studied = Data.PatientBirthDate or '', Data.StudyDate or ''
  if Data.PatientAge or #born ~= 8 or #studied ~= 8 then return end
  local years = tonumber(studied:sub(1, 4)) - tonumber(born:sub(1, 4))
  if studied:sub(5) < born:sub(5) then years = years - 1 end
  if years >= 0 and years < 1000 then Data.PatientAge = ('%03dY'):format(years) end
end

-- Returns where a creator has its block of a group (PS3.5 7.8.1), nil when it has none.
local function block(group, creator)
  for element = 0x10, 0xff do
    local name = Data:GetVR(group, element, true)
    if name and name:gsub('[ %z]+$', '') == creator then return element * 256 end
  end
end

-- The b-value is text in (0019,xx0c); it belongs into (0018,9087), which is a double.
local function move_b_value()
  local base = block(0x0019, VENDOR)
  local text = base and Data:GetVR(0x0019, base + 0x0c, true)
  local value = text and tonumber((text:gsub('[ %z]+$', '')))
  if not value then return end
  Data:SetVR(0x0018, 0x9087, { value })
  Data[('0019,%04x'):format(base + 0x0c)] = nil
end

-- "A100;HEAD/A101;NECK" in RequestedProcedureDescription becomes one item for each order.
local function split_orders()
  local text = Data.RequestedProcedureDescription or ''
  if not text:find(';', 1, true) then return end
  Data.RequestAttributesSequence = {}
  local items = Data.RequestAttributesSequence
  while #items > 0 do items:Delete(0) end
  for number, what in text:gmatch('([^;/]+);([^/]*)') do
    local item = items[#items]      -- The item behind the last one is made by writing into it.
    item.RequestedProcedureID = number
    item.ScheduledProcedureStepDescription = what
  end
  if #items > 0 then Data.AccessionNumber = items[0].RequestedProcedureID end
  Data.RequestedProcedureDescription = nil
end

-- References without an instance are of no use, and some viewers stop at them.
local function drop_empty_references()
  local references = Data.ReferencedImageSequence
  if not references then return end
  for number = #references - 1, 0, -1 do
    if (references[number].ReferencedSOPInstanceUID or '') == '' then
      Data:DeleteFromSequence('ReferencedImageSequence', number)
    end
  end
  if #references == 0 then Data.ReferencedImageSequence = nil end
end

-- Who changed the object, as an item of its own, after those that are there.
local function add_contribution()
  local item = newdicomobject()
  item.InstitutionName = 'Hospital of the Example'
  item.ContributionDescription = 'brought into form by dgate'
  local purpose = newdicomarray()
  local code = newdicomobject()
  code.CodeValue, code.CodingSchemeDesignator = '109103', 'DCM'
  code.CodeMeaning = 'Modifying Equipment'
  purpose:Add(code)
  setvr(item, 0x0040, 0xa170, purpose)
  Data.ContributingEquipmentSequence = {}
  Data.ContributingEquipmentSequence:Add(item)
  deletedicomobject(code)
  item:free()
end

if repair_id() then
  repair_name()
  add_age()
  move_b_value()
  split_orders()
  drop_empty_references()
  add_contribution()
  if (Data.StationName or '') == '' then Data.StationName = Association.Calling end
  -- Numbers arrive as text: compare them as numbers.
  if tonumber(Data.EchoTime or '') == 0 then Data:Script('delete EchoTime') end
  -- A private element of our own: the creator first, then what belongs to it.
  Data:SetVR(0x0029, 0x0010, OURS)
  Data:SetVR(0x0029, 0x1001, 'received from ' .. Association.Calling)
end
