-- Enters the keys of a trial, as trial_savekeys.lua wrote them, into the register of this server.
--
--   [lua]
--   startup = command_line = 'keys/trial7.csv' dofile('lua/trial_loadkeys.lua')
--
-- Where the register has another replacement for a value, that one stays: objects with it may be
-- stored already. The log names such values by their replacement only. Rows may be loaded again.

local csv = require('csv')

local file = (command_line or ''):match('^%s*(%S+)%s*$')
if not file then error('the command line has to be the name of the file') end
local rows, message = csv.records(file)
if not rows then error(message) end

local loaded, other = 0, 0
for number, row in ipairs(rows) do
  if (row.OldUID or '') == '' or (row.NewUID or '') == '' or not row.Stage then
    error(file .. ' row ' .. number + 1 .. ' lacks a value')
  end
  local stage = row.Stage == '(empty)' and '' or row.Stage
  local kind = row.MODType ~= '' and row.MODType or nil
  if changeuid(row.OldUID, row.NewUID, stage, kind) == row.NewUID then
    loaded = loaded + 1
  else
    other = other + 1
    print(file .. ': the register has another value in the place of ' .. row.NewUID)
  end
end
print(('%d keys of %s are in the register, %d differ'):format(loaded, file, other))
