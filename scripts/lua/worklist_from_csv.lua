-- Answers worklist queries from a CSV file that another system writes.
--
--   WorkListQueryConverter0 = lua/worklist_from_csv.lua(orders.csv)
--
-- Before a query is answered the file is compared with what was read of it last; if it has changed,
-- its rows become the entries of the worklist, and entries whose rows are gone go. Entries from
-- elsewhere (`dgate worklist`, HL7) stay. A broken file leaves the worklist as it is.
--
-- The first line has DICOM keywords: those that dicom.sql has a column for in *WorkList*, of them
-- AccessionNumber, PatientID and ScheduledProcedureStepID. The last says what tells the steps of one
-- order from each other. Column names of the database come from dicom.sql, values go as parameters.

local csv = require('csv')

local file = (command_line or ''):match('^%s*(.-)%s*$')
if file == '' then error('the name of the CSV file is missing') end
local LOADED = file .. '.loaded'    -- Digest of what was read, then the entries that came of it.
local NEEDED = { 'AccessionNumber', 'PatientID', 'ScheduledProcedureStepID' }

local function content(name)
  local handle = io.open(name, 'rb')
  if not handle then return nil end
  local text = handle:read('*a')
  handle:close()
  return text
end

-- Returns the columns of the worklist by keyword.
local function columns()
  local found = {}
  local row = 0
  while true do
    local group, element, name, length = get_sqldef(4, row)
    if not group then return found end
    local keyword = dictionary(group, element)
    if keyword and not found[keyword] then found[keyword] = { name = name, length = length } end
    row = row + 1
  end
end

local function execute(statement, values)
  if not sql(statement, values) then error('the worklist cannot be written', 0) end
end

-- Reads all rows before anything is written, so that a broken file changes nothing.
local function entries(text, known)
  local rows = csv.parse(text)
  local names = rows[1] or {}
  local has = {}
  for place, name in ipairs(names) do
    if not known[name] then error('dicom.sql has no worklist column for ' .. name, 0) end
    has[name] = place
  end
  for _, name in ipairs(NEEDED) do
    if not has[name] then error('the column ' .. name .. ' is missing', 0) end
  end
  local found = {}
  for number = 2, #rows do
    local entry = {}
    for place, name in ipairs(names) do
      local value = rows[number][place] or ''
      if #value > known[name].length then
        error(('row %d: %s is longer than %d'):format(number, name, known[name].length), 0)
      end
      entry[name] = value
    end
    for _, name in ipairs(NEEDED) do
      if entry[name] == '' then error(('row %d: %s is empty'):format(number, name), 0) end
    end
    found[#found + 1] = entry
  end
  return found, names
end

local function enter(entry, names, known)
  local accession, step = known.AccessionNumber.name, known.ScheduledProcedureStepID.name
  local which = (' WHERE %s = ? AND %s = ?'):format(accession, step)
  local key = { entry.AccessionNumber, entry.ScheduledProcedureStepID }
  -- One statement, so that two queries at the same time do not enter it twice.
  execute(('INSERT INTO DICOMWorkList (%s, %s) SELECT ?, ? FROM (SELECT 1 AS one) AS single '
    .. 'WHERE NOT EXISTS (SELECT 1 FROM DICOMWorkList%s)'):format(accession, step, which),
    { key[1], key[2], key[1], key[2] })
  local changes, values = {}, {}
  for _, name in ipairs(names) do
    changes[#changes + 1] = known[name].name .. ' = ?'
    values[#values + 1] = entry[name]
  end
  values[#values + 1], values[#values + 2] = key[1], key[2]
  execute('UPDATE DICOMWorkList SET ' .. table.concat(changes, ', ') .. which, values)
end

local function load(text, before)
  local known = columns()
  local found, names = entries(text, known)
  local rows, there = { { md5sum(text) } }, {}
  for _, entry in ipairs(found) do
    enter(entry, names, known)
    rows[#rows + 1] = { entry.AccessionNumber, entry.ScheduledProcedureStepID }
    there[csv.line(rows[#rows])] = true
  end
  for number = 2, #before do
    local row = before[number]
    if not there[csv.line(row)] then
      execute(('DELETE FROM DICOMWorkList WHERE %s = ? AND %s = ?'):format(
        known.AccessionNumber.name, known.ScheduledProcedureStepID.name), row)
    end
  end
  csv.write(LOADED, rows)
  print(('%s: %d worklist entries'):format(file, #found))
end

local text = content(file)
local before = csv.read(LOADED) or {}
if text and (before[1] or {})[1] ~= md5sum(text) then
  local ok, message = pcall(load, text, before)
  -- Queries are still answered, by what was there before.
  if not ok then print(file .. ' is not used: ' .. tostring(message)) end
end
