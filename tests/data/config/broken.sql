*Patient*
{
  { 0x0010, 0x0020, "PatientID", 64, SQL_C_CHAR, DT_STR },
  { 0x0010, 0x0010, "PatientID", 64, SQL_C_CHAR, DT_STR }
}
stray
*Study*
{
  { 0x0008, 0x0020, "StudyDate", 8, SQL_C_DATE, DT_DATE },
  { 0x0020, 0x000d, "StudyInstanceUID", 64, SQL_C_WCHAR, DT_UI },
  { 0x0020, 0x0010, "Study ID", 16, SQL_C_CHAR, DT_STRING },
  { 0x0020, 0x0010, "Short" }
}
*Series*
  { 0x0020, 0x000e, "SeriesInstanceUID", 64, SQL_C_CHAR, DT_UI }
*WorkList*
{
  { 0x0008, 0x0050, "AccessionNumber", 16, SQL_C_CHAR, DT_STR, "OBR.3" },
  { 0x0040, 0x0100, "--------", 0, SQL_C_CHAR, DT_STARTSEQUENCE, "---" },
  { 0x0008, 0x0060, "Modality", 16, SQL_C_CHAR, DT_STR, "OBR.21" },
  { 0x0040, 0x0008, "--------", 0, SQL_C_CHAR, DT_STARTSEQUENCE, "---" },
  { 0x0008, 0x0100, "Code", 16, SQL_C_CHAR, DT_STR, "---" },
  { 0x0040, 0x0008, "--------", 0, SQL_C_CHAR, DT_ENDSEQUENCE, "---" },
  { 0x0040, 0x1001, "AccessTime", 16, SQL_C_CHAR, DT_STR, "OBR.4.0 }
}
