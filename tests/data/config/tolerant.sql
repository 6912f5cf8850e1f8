/* top comment */
*PATIENT*{{0x0010,0x0020,"PatientID",64,sql_c_char,dt_str}
{ 16, 0x0010, "PatientName", 64, SQL_C_CHAR, DT_STR },,
# a comment line
{ 0x0010, 0x0030, "PatientBirthDate", 8, SQL_C_DATE, DT_DATE }, // behind a row
}
*Study*
{
  { 0x0010, 0x0020, "PatientID", 64, SQL_C_CHAR, DT_STR },
}
*Study*
{
}
*Series*
{
  { 0x0020, 0x000e, "SeriesInstanceUID", 64, SQL_C_CHAR, DT_UI },
  { 0x0020, 0x000d, "StudyInstanceUID", 64, SQL_C_CHAR, DT_UI },
  { 0x0008, 0x0060, "Modality" 16, SQL_C_CHAR, DT_STR }
*Image*
{
  { 0x0008, 0x0018, "SOPInstanceUID", 64, SQL_C_CHAR, DT_UI },
  { 0x0008, 0x00gg, "Odd", 0, SQL_C_CHAR, DT_ISTR },
  { 0x0020, 0x0013, "ImageNumber", 12, SQL_C_CHAR, DT_STR }
