-- Writes what the register has replaced for a trial to a CSV file: the only way back to the patients.
--
--   ExportConverter0 = process study after 60 by lua/trial_savekeys.lua trial7 keys/trial7.csv
--   [lua]
--   nightly = command_line = 'trial7 keys/trial7.csv' dofile('lua/trial_savekeys.lua')
--
-- The command line is STAGE FILE; the stage without a name is called (empty). The folder of the file
-- is made. trial_loadkeys.lua reads it again. Keep the file where only few people get.

local csv = require('csv')

local stage, file = (command_line or ''):match('^%s*(%S+)%s+(%S+)%s*$')
if not stage then error('the command line has to be STAGE FILE') end

local rows = dbquery('UIDMODS', 'OldUID, MODType, NewUID, Stage, MODTime', 'Stage = ?',
  'MODTime, OldUID', { stage })
if not rows then error('the register of replaced values cannot be read') end
local folder = file:match('^(.+)/[^/]*$')
if folder then mkdir(folder) end
table.insert(rows, 1, { 'OldUID', 'MODType', 'NewUID', 'Stage', 'MODTime' })
csv.write(file, rows)
print(('%d keys of stage %s written to %s'):format(#rows - 1, stage, file))
