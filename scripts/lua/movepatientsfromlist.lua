-- Has another archive send all patients of a list here, or to any node.
--
--   [lua]
--   nightly = command_line = 'OLDPACS DGATE patients.txt' dofile('lua/movepatientsfromlist.lua')
--
-- The command line is SOURCE DESTINATION FILE; the file has one patient ID in each line. Patients that
-- have come stand in FILE.done and are not asked for again; for the others call it once more.

local source, destination, file = (command_line or ''):match('^%s*(%S+)%s+(%S+)%s+(%S+)%s*$')
if not source then error('the command line has to be SOURCE DESTINATION FILE') end

local function lines_of(name)
  local found = {}
  local handle = io.open(name)
  if handle then
    for line in handle:lines() do
      local id = line:match('^%s*(.-)%s*$')
      if id ~= '' then found[#found + 1] = id end
    end
    handle:close()
  end
  return found
end

local done = {}
for _, id in ipairs(lines_of(file .. '.done')) do done[id] = true end
local moved, failed = 0, 0
for _, id in ipairs(lines_of(file)) do
  -- A wildcard would mean other patients as well.
  if not done[id] and not id:find('[*?\\]') then
    local query = newdicomobject()
    query.QueryRetrieveLevel, query.PatientID = 'PATIENT', id
    local problem = dicommove(source, destination, query, 1, [[debuglog(Global.StatusString)]])
    if problem then
      failed = failed + 1
      print('a patient of ' .. file .. ' was not moved: ' .. problem)
    else
      moved = moved + 1
      local log = assert(io.open(file .. '.done', 'a'))
      log:write(id, '\n')
      log:close()
    end
  end
end
print(('%d patients moved from %s to %s, %d failed'):format(moved, source, destination, failed))
