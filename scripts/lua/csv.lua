-- Reads and writes comma separated values (RFC 4180), for other scripts: local csv = require('csv')
--
--   csv.line(fields [, separator])     one line, with its end of line
--   csv.parse(text [, separator])      a table of rows; each row is a table of fields
--   csv.read(file [, separator])       the rows of a file; nil and a message when there is none
--   csv.records(file [, separator])    the same with the first row as names: row.PatientID
--   csv.write(file, rows [, separator])   a whole file; it has its name only when it is complete

local csv = {}

local function quoted(value, separator)
  local text = tostring(value == nil and '' or value)
  if text:find('["\r\n]') or text:find(separator, 1, true) then
    return '"' .. text:gsub('"', '""') .. '"'
  end
  return text
end

function csv.line(fields, separator)
  separator = separator or ','
  local texts = {}
  for number = 1, fields.n or #fields do texts[number] = quoted(fields[number], separator) end
  return table.concat(texts, separator) .. '\r\n'
end

-- Returns the field that begins at `at`, and where what follows it begins.
local function field(text, at, separator)
  if text:sub(at, at) ~= '"' then
    local stop = text:find('[\r\n' .. separator .. ']', at) or #text + 1
    return text:sub(at, stop - 1), stop
  end
  local pieces = {}
  while true do
    local stop = text:find('"', at + 1, true)
    if not stop then error('a quoted field of the CSV text does not end', 0) end
    pieces[#pieces + 1] = text:sub(at + 1, stop - 1)
    if text:sub(stop + 1, stop + 1) ~= '"' then return table.concat(pieces, '"'), stop + 1 end
    at = stop + 1
  end
end

function csv.parse(text, separator)
  separator = separator or ','
  if text:sub(1, 3) == '\239\187\191' then text = text:sub(4) end
  local rows, row, at = {}, {}, 1
  while at <= #text do
    local value
    value, at = field(text, at, separator)
    row[#row + 1] = value
    local mark = text:sub(at, at)
    if mark == separator then
      at = at + 1
      -- A line may end with an empty field.
      if at > #text then row[#row + 1] = '' end
    else
      if mark ~= '' and mark ~= '\r' and mark ~= '\n' then
        error('row ' .. #rows + 1 .. ' of the CSV text has text behind a quoted field', 0)
      end
      at = at + (text:sub(at, at + 1) == '\r\n' and 2 or 1)
      if #row > 1 or row[1] ~= '' then rows[#rows + 1] = row end
      row = {}
    end
  end
  if #row > 0 then rows[#rows + 1] = row end
  return rows
end

local function content(name)
  local file, message = io.open(name, 'rb')
  if not file then return nil, message end
  local text = file:read('*a')
  file:close()
  return text
end

function csv.read(name, separator)
  local text, message = content(name)
  if not text then return nil, message end
  return csv.parse(text, separator)
end

function csv.records(name, separator)
  local rows, message = csv.read(name, separator)
  if not rows then return nil, message end
  local names, records = rows[1] or {}, {}
  for number = 2, #rows do
    local record = {}
    for place, title in ipairs(names) do record[title] = rows[number][place] or '' end
    records[#records + 1] = record
  end
  return records, names
end

function csv.write(name, rows, separator)
  local temporary = name .. '.new'
  local file = assert(io.open(temporary, 'wb'))
  for _, row in ipairs(rows) do assert(file:write(csv.line(row, separator))) end
  assert(file:close())
  assert(os.rename(temporary, name))
end

return csv
