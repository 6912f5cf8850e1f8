"""Every setting has a test that shows its effect, or gives the notice that it has none.

The table names for each setting the test to look at; a setting that begins to work needs a line in
it. Where a setting has no effect, the tests at the end read a dicom.ini that sets it and look for
the notice.
"""

# A row of the table is a line, however long the test is called.
# ruff: noqa: E501
from __future__ import annotations

import ast
import functools
from pathlib import Path

import pytest

from dgate.config.key_table import CONVERTER_FAMILIES, REGISTRY
from dgate.config.keys import ANY_KEY, MAIN, NODE, Key, KeyType
from dgate.config.settings import Severity, load
from dgate.inspection import inspect
from tests.config.kit import write

TESTS = Path(__file__).parent.parent

# Setting, then file and name of the test that shows its effect. Sections as in the reference.
_EFFECTS = """
# 2. Identity and network
MicroPACS                     acceptance/test_small_keys  test_micropacs_selects_the_section
MyACRNema                     acceptance/test_small_keys  test_titles_and_pdu_size_of_what_is_sent
TCPPort                       acceptance/test_trouble     test_a_port_in_use_is_named
PACSName                      acceptance/test_logs        test_the_servers_name_stands_in_front
TCPIPTimeOut                  acceptance/test_small_keys  test_silent_peer_is_given_up_after_the_time_out
PDUSize                       acceptance/test_small_keys  test_titles_and_pdu_size_of_what_is_sent
SendUpperCaseAE               acceptance/test_small_keys  test_padding_and_upper_case_of_titles
PadAEWithZeros                acceptance/test_small_keys  test_padding_and_upper_case_of_titles
MaxAssociations               net/test_listener           test_an_association_beyond_the_limit_is_told_to_come_back
AllowUnknown                  net/test_negotiation        test_an_unknown_caller_gets_verification_only_when_unknown_ones_are_not_allowed
StatusCodes                   acceptance/test_small_keys  test_status_codes_are_those_that_are_wanted
UnknownSOPClasses             net/test_negotiation        test_unknown_storage_classes_are_accepted_when_the_setting_says_so
NoDicomCheck                  acceptance/test_small_keys  test_unparsed_objects_are_kept_where_the_check_is_off

# 3. Files, logs, paths
kFactorFile                   acceptance/test_small_keys  test_files_are_read_from_where_the_settings_say
ACRNemaMap                    acceptance/test_small_keys  test_files_are_read_from_where_the_settings_say
SOPClassList                  acceptance/test_small_keys  test_files_are_read_from_where_the_settings_say
UserLog                       acceptance/test_logs        test_log_files_are_the_ones_that_are_named
TroubleLog                    acceptance/test_logs        test_log_files_are_the_ones_that_are_named
TempDir                       archive/test_export         test_temporary_folder_that_is_full_is_named
DebugLevel                    acceptance/test_logs        test_debug_level_adds_commands_questions_answers_and_sql
OperatorConsole               acceptance/test_logs        test_console_elsewhere_gets_a_copy
ziptime                       acceptance/test_logs        test_logs_are_packed_away_without_any_password

# 4. Database
SQLServer                     archive/test_database       test_missing_file_and_folders_are_created
SQLite                        archive/test_database       test_missing_file_and_folders_are_created
PostGres                      archive/test_servers        test_everything_goes_on_after_the_server_ended_the_connections
MySQL                         archive/test_servers        test_everything_goes_on_after_the_server_ended_the_connections
SQLHost                       archive/test_servers        test_login_that_fails_is_a_configuration_error_with_a_remedy
Username                      archive/test_servers        test_login_that_fails_is_a_configuration_error_with_a_remedy
Password                      archive/test_servers        test_login_that_fails_is_a_configuration_error_with_a_remedy
SQLiteStartup                 archive/test_database       test_startup_pragmas_are_applied_but_durability_wins
MySQLStartup                  archive/test_servers        test_startup_statements_are_run_in_every_session
PostGreSQLStartup             archive/test_servers        test_startup_statements_are_run_in_every_session
Durability                    archive/test_database       test_durability_decides_how_commits_are_synced
TruncateFieldNames            config/test_settings        test_truncation_and_bound_reach_the_layout
MaxFieldLength                config/test_settings        test_truncation_and_bound_reach_the_layout
AllowTruncate                 archive/test_index          test_allowed_truncation_is_information_only
PatientTableName              acceptance/test_small_keys  test_tables_have_the_names_that_are_wanted
StudyTableName                acceptance/test_small_keys  test_tables_have_the_names_that_are_wanted
SeriesTableName               acceptance/test_small_keys  test_tables_have_the_names_that_are_wanted
ImageTableName                acceptance/test_small_keys  test_tables_have_the_names_that_are_wanted
WorkListTableName             acceptance/test_small_keys  test_tables_have_the_names_that_are_wanted

# 5. Query and identifiers
EnableComputedFields          archive/test_query          test_counts_can_be_switched_off
PatientQuerySortOrder         acceptance/test_small_keys  test_answers_come_in_the_order_that_is_wanted
StudyQuerySortOrder           acceptance/test_small_keys  test_answers_come_in_the_order_that_is_wanted
SeriesQuerySortOrder          acceptance/test_small_keys  test_answers_come_in_the_order_that_is_wanted
ImageQuerySortOrder           archive/test_query          test_selection_is_in_the_order_of_transmission
QueriesReturnISO_IR           acceptance/test_small_keys  test_character_set_of_answers_is_the_one_that_is_wanted
MatchCase                     archive/test_query          test_letter_case_counts_when_asked_for
FixPhilips                    archive/test_repair         test_padding_of_some_modalities_is_removed
FixKodak                      archive/test_repair         test_padding_of_some_modalities_is_removed
AllowEmptyPatientID           archive/test_index          test_empty_patient_id_is_allowed_and_has_no_patient_row
WorkListMode                  acceptance/test_worklist    test_object_without_entry_is_stored_by_mode_1_and_refused_by_mode_2
WorkListReturnsISO_IR_100     acceptance/test_worklist    test_character_set_is_configured
WorkListReturnsISO_IR         acceptance/test_worklist    test_character_set_is_configured

# 6. Storage
MAGDevices                    archive/test_ingest         test_second_device_takes_over_when_a_rule_or_a_full_disk_says_so
MAGDeviceN                    archive/test_ingest         test_second_device_takes_over_when_a_rule_or_a_full_disk_says_so
MIRRORDevices                 archive/maintenance/test_mirror  test_paying_copies_the_file_byte_for_byte_under_its_name
MIRRORDeviceN                 archive/maintenance/test_mirror  test_paying_copies_the_file_byte_for_byte_under_its_name
MAGDeviceFullThreshold        acceptance/test_trouble     test_a_device_below_its_threshold_is_full
IgnoreMAGDeviceThreshold      archive/test_devices        test_threshold_can_be_ignored
DiskReserve                   acceptance/test_stress      test_a_changed_reserve_counts_without_a_restart
InodeReserve                  acceptance/test_stress      test_inodes_are_kept_in_reserve_and_used_again_when_there_are_more
DiskWarningDays               archive/test_diskwatch      test_disk_that_is_soon_full_is_told_once_a_day
MAGDeviceThreshold            archive/test_housekeeping   test_storing_below_the_threshold_starts_a_clean_up
NightlyCleanThreshold         archive/test_housekeeping   test_nightly_cleaning_frees_five_megabytes_more_than_asked
NightlyMoveThreshold          archive/test_housekeeping   test_old_patients_move_to_the_target_by_night
NightlyMoveTarget             archive/test_housekeeping   test_old_patients_move_to_the_target_by_night
MaximumDelayedFetchForwardRetries acceptance/test_delayed test_operation_is_stuck_after_as_many_tries_as_allowed
ForwardCollectDelay           acceptance/test_delayed     test_prefetch_reads_the_files
ChangeLog                     acceptance/test_restore     test_study_becomes_what_it_was
ChangeLogDays                 archive/test_housekeeping   test_old_records_of_change_are_forgotten_by_night
LedgerDays                    delivery/test_ledger_days   test_history_is_kept_for_as_many_days_as_are_wanted
NightlyStrTimeToMove          config/test_areas           test_the_time_of_the_nightly_move
CACHEDeviceN                  archive/test_volumes        test_an_object_on_a_volume_is_read
JUKEBOXDeviceN                archive/test_volumes        test_an_object_on_a_volume_is_read
LRUSort                       archive/maintenance/test_clean  test_lru_sort_names_the_column_that_decides
FileNameSyntax                archive/test_naming         test_fixed_syntaxes
MaxFileNameLength             archive/test_naming         test_long_names_lose_leading_characters_below_their_root_folder
RenameOnRewrite               archive/test_ingest_rewrites  test_object_moves_when_its_extension_changes_or_it_is_to_be_renamed
DuplicateContent              acceptance/test_duplicates  test_of_different_contents_the_first_stays_and_the_others_are_put_aside
IgnoreRewrite                 archive/test_ingest_rewrites  test_known_object_is_ignored_when_asked
UIDPrefix                     archive/test_repair         test_generated_uids_are_valid_for_any_prefix
MissingUIDs                   archive/test_repair         test_missing_uids_can_be_refused
V2Content                     archive/test_ingest         test_v2_file_holds_a_bare_implicit_data_set_when_asked
StorageFailedErrorCode        acceptance/test_forward     test_a_rejected_object_is_refused_with_the_configured_status
ImportExportDragAndDrop       acceptance/test_watch       test_rules_do_not_see_files_where_import_export_drag_and_drop_is_off
WatchFolder                   acceptance/test_watch       test_files_are_imported_and_removed
DelayIncomingFileOpen         archive/test_watcher        test_delay_of_the_settings_is_waited_for

# 7. Compression and codecs
IncomingCompression           archive/test_ingest         test_objects_are_recompressed_on_arrival_when_asked
DroppedFileCompression        archive/test_ingest         test_files_are_recompressed_by_their_own_setting
ArchiveCompression            archive/maintenance/test_move_device  test_archive_compression_reencodes_what_moves

# 8. Retrieval and virtual servers
EnableReadAheadThread         services/test_retrieve      test_next_object_is_read_ahead_unless_that_is_switched_off
VirtualServerForN             acceptance/test_virtual     test_a_query_finds_what_the_virtual_server_has
VirtualServerPerSeriesN       acceptance/test_virtual     test_a_whole_series_is_fetched_in_one_request
CacheVirtualData              acceptance/test_virtual     test_what_is_not_kept_is_passed_on_all_the_same

# 9. Routing and queues
ImportConverters              config/test_converters      test_every_import_rule_runs_unless_their_number_is_given
ExportConverters              config/test_converters      test_rule_that_never_runs_is_reported
ForwardAssociationLevel       delivery/test_worker        test_association_ends_when_the_uid_of_its_level_changes
ForwardAssociationCloseDelay  delivery/test_dispatcher    test_idle_association_is_closed_after_its_delay
ForwardAssociationRelease     delivery/test_worker        test_connection_is_dropped_without_release_where_configured
ForwardAssociationRefreshDelay  delivery/test_sender      test_peer_is_asked_again_when_its_refusal_is_old
RetryFirst                    delivery/test_schedule      test_policy_is_taken_from_the_settings
RetryMax                      delivery/test_schedule      test_policy_is_taken_from_the_settings
RetryDelay                    delivery/test_schedule      test_policy_is_taken_from_the_settings
FailHoldOff                   delivery/test_worker        test_fail_hold_off_pauses_the_destination_after_any_failure
MaximumExportRetries          delivery/test_worker        test_debt_is_stuck_after_the_configured_number_of_tries
DelayedForwarderThreads       acceptance/test_small_keys  test_several_associations_deliver_at_once
AllowSystemCommands           acceptance/test_rule_actions  test_a_program_runs_for_each_object_where_that_is_allowed
SystemTimeout                 acceptance/test_rule_actions  test_a_program_that_does_not_end_is_killed_and_refuses_the_object
ScriptFolders                 acceptance/test_rule_actions  test_folders_for_scripts_may_be_written_too
LuaUnrestricted               acceptance/test_rule_actions  test_folders_for_scripts_may_be_written_too
ScriptErrors                  rules/test_hooks            test_line_goes_on_after_a_failing_statement_when_errors_are_ignored
ReidentificationKey acceptance/test_deidentify test_the_key_lies_where_the_setting_says

ImportConverterN              acceptance/test_forward     test_an_import_rule_changes_what_is_stored_and_sent
ExportConverterN              acceptance/test_forward     test_a_rule_forwards_every_object_with_the_same_bytes
ExportFilterN                 acceptance/test_forward     test_an_sql_filter_chooses_what_is_sent
QueryConverterN               acceptance/test_events      test_query_converter_changes_what_is_searched_for
WorkListQueryConverterN       acceptance/test_events      test_worklist_converters
RetrieveConverterN            acceptance/test_events      test_retrieve_converter_sees_the_destination_and_refuses
RetrieveResultConverterN      acceptance/test_events      test_result_converter_changes_each_object_that_leaves_and_no_other
QueryResultConverterN         acceptance/test_events      test_query_result_converter_changes_and_suppresses_answers
ModalityWorkListQueryResultConverterN  acceptance/test_events  test_worklist_converters
RejectedImageConverterN       acceptance/test_events      test_object_that_the_index_refuses_can_be_corrected_and_entered
RejectedImageWorkListConverterN  acceptance/test_worklist  test_refused_object_can_be_corrected_and_tried_again
MoveDeviceConverterN          acceptance/test_maintenance  test_move_device_converter_changes_what_moves
MergeStudiesConverterN        acceptance/test_maintenance  test_merge_studies_converter_changes_what_is_merged
MergeSeriesConverterN         acceptance/test_maintenance  test_merge_series_converter_changes_what_is_merged
CompressionConverterN         acceptance/test_events      test_compression_converter_runs_for_received_and_for_sent_objects

# Lua
LuaInstructions acceptance/test_lua test_limits_can_be_changed_while_the_server_runs
LuaMemoryMB acceptance/test_lua test_limits_can_be_changed_while_the_server_runs
LuaSeconds acceptance/test_lua test_limits_can_be_changed_while_the_server_runs
[lua]/ImportConverterN acceptance/test_lua test_import_rule_of_section_lua_changes_what_is_stored
[lua]/ExportConverterN acceptance/test_lua test_counter_of_an_export_converter_outlives_objects_and_reloads
[lua]/QueryConverterN rules/lua/test_engine test_lua_converter_of_every_event_changes_its_object
[lua]/WorkListQueryConverterN rules/lua/test_engine test_lua_converter_of_every_event_changes_its_object
[lua]/RetrieveConverterN rules/lua/test_engine test_lua_converter_of_every_event_changes_its_object
[lua]/RetrieveResultConverterN rules/lua/test_engine test_lua_converter_of_every_event_changes_its_object
[lua]/QueryResultConverterN rules/lua/test_engine test_lua_converter_of_every_event_changes_its_object
[lua]/ModalityWorkListQueryResultConverterN rules/lua/test_engine test_lua_converter_of_every_event_changes_its_object
[lua]/VirtualServerQueryConverterN rules/lua/test_engine test_lua_converter_of_every_event_changes_its_object
[lua]/VirtualServerQueryResultConverterN rules/lua/test_engine test_lua_converter_of_every_event_changes_its_object
[lua]/RejectedImageConverterN rules/lua/test_engine test_lua_converter_of_every_event_changes_its_object
[lua]/RejectedImageWorkListConverterN rules/lua/test_engine test_lua_converter_of_every_event_changes_its_object
[lua]/RegenConverterN rules/lua/test_engine test_lua_converter_of_every_event_changes_its_object
[lua]/RegenFailConverterN rules/lua/test_engine test_lua_converter_of_every_event_changes_its_object
[lua]/MergeSeriesConverterN rules/lua/test_engine test_lua_converter_of_every_event_changes_its_object
[lua]/MergeStudiesConverterN rules/lua/test_engine test_lua_converter_of_every_event_changes_its_object
[lua]/MoveDeviceConverterN rules/lua/test_engine test_lua_converter_of_every_event_changes_its_object
[lua]/CompressionConverterN rules/lua/test_engine test_lua_converter_of_every_event_changes_its_object
[lua]/startup acceptance/test_lua test_startup_event_can_refuse_the_start
[lua]/association acceptance/test_lua test_association_event_drops_and_shares_globals_with_rules
[lua]/endassociation acceptance/test_lua test_association_event_drops_and_shares_globals_with_rules
[lua]/command acceptance/test_lua test_command_event_sees_and_refuses_commands
[lua]/clienterror acceptance/test_lua test_client_error_event_runs_when_the_client_breaks_the_protocol
[lua]/nightly services/test_luaclock test_nightly_code_runs_when_three_o_clock_has_passed
[lua]/background acceptance/test_lua test_background_event_runs_again_and_again

# 10. Sections
[scripts]/*                   config/test_converters      test_named_scripts_are_found_in_any_letter_case

# Sections of nodes: comparisons and expected counts
[node]/Reconcile              acceptance/test_reconcile   test_comparison_by_schedule_is_told_by_the_status
[node]/ReconcileDays          delivery/reconcile/test_schedule test_nodes_are_compared_when_their_time_comes
[node]/ReconcileLevel         delivery/reconcile/test_schedule test_nodes_are_compared_when_their_time_comes
[node]/ReconcileSend          acceptance/test_reconcile   test_comparison_by_schedule_is_told_by_the_status
[node]/ReconcileFetch         delivery/reconcile/test_schedule test_nodes_are_compared_when_their_time_comes
[node]/Priority               archive/test_provenance     test_priority_that_is_set_for_the_sender_outranks_what_it_says
[node]/ExpectCounts           acceptance/test_expected    test_complete_study_is_due_at_once_even_after_a_kill

# Sections about nodes
[node]/Associations           delivery/test_control       test_node_has_as_many_associations_as_it_says
[node]/ObjectsPerAssociation  delivery/test_control       test_association_ends_after_as_many_objects_as_the_node_says
[node]/ConnectTimeOut         delivery/test_control       test_connection_is_given_up_after_the_nodes_time
[node]/ResponseTimeOut        delivery/test_failure_table test_answer_that_comes_too_late_is_a_failure
[node]/Deadline               delivery/test_failure_table test_peer_that_trickles_is_cut_at_the_deadline
[node]/TransferSyntaxes       delivery/test_control       test_syntaxes_are_proposed_and_chosen_in_the_nodes_order
[node]/Window                 delivery/test_control       test_nothing_is_sent_outside_of_the_window_until_it_opens
[node]/BulkWindow             delivery/test_control       test_bulk_waits_for_its_own_window_and_the_rest_does_not
[node]/Bandwidth              delivery/test_control       test_bandwidth_is_shared_by_all_associations
[node]/RetryFirst             delivery/test_control       test_node_has_its_own_pauses
[node]/RetryMax               delivery/test_control       test_node_has_its_own_pauses
[node]/RetryDelay             delivery/test_control       test_node_has_its_own_pauses
[node]/FailHoldOff            delivery/test_control       test_node_has_its_own_pauses
[node]/MaximumExportRetries   delivery/test_control       test_node_has_its_own_limit_of_tries
[node]/Statuses               delivery/test_failure_table test_node_gives_statuses_another_meaning
[node]/Fallback               delivery/test_control       test_what_is_not_taken_in_time_goes_to_the_fallback
[node]/FallbackAfter          delivery/test_control       test_what_is_not_taken_in_time_goes_to_the_fallback
[node]/Group                  delivery/test_control       test_each_study_of_a_group_goes_to_one_member
[node]/Commit                 acceptance/test_commitment_asking test_a_delivery_is_done_when_the_peer_has_committed
[node]/CommitTimeOut          acceptance/test_commitment_asking test_a_peer_that_never_reports_is_asked_again_and_at_last_it_is_stuck
[node]/CommitWait             acceptance/test_commitment_asking test_objects_that_come_together_are_asked_for_together
[node]/CommitBeforeDelete     archive/maintenance/test_uncommitted test_what_was_delivered_without_commitment_stays
"""

# The filters of all families are one mechanism; these show it at intake and at events.
_FILTERS_AT_INTAKE = ("rules/test_hooks", "test_converter_runs_when_all_its_filters_match")
_FILTERS_AT_EVENTS = ("rules/test_events", "test_filters_decide")
_FILTER_KINDS = ("Modality", "StationName", "CallingAE", "CalledAE")

# Settings whose room is being built elsewhere: their makers move them to the table above.
# <<< OTHERS: name the test in the table and take the line away here.
_OF_OTHERS = """

OverlapVirtualGet
VirtualServerQueryConverterN VirtualServerQueryResultConverterN RegenConverterN RegenFailConverterN
"""
# >>>


def _table() -> dict[str, tuple[str, str]]:
    found: dict[str, tuple[str, str]] = {}
    for line in _EFFECTS.splitlines():
        if line and not line.startswith("#"):
            name, file, test = line.split()
            assert name not in found, f"{name} stands there twice"
            found[name] = (file, test)
    for family in CONVERTER_FAMILIES:
        for kind in _FILTER_KINDS:
            at_intake = family in ("Import", "Export")
            found[f"{family}{kind}N"] = _FILTERS_AT_INTAKE if at_intake else _FILTERS_AT_EVENTS
    return found


EVIDENCE = _table()


def full_name(key: Key) -> str:
    """Return the name of a key with the section it is in, if that is another than the main one."""
    return key.name if key.section == MAIN else f"[{key.section}]/{key.name}"


def keys(*, effective: bool) -> list[object]:
    """Return the settings that have an effect, or those that have none."""
    return [pytest.param(key, id=full_name(key)) for key in REGISTRY if key.effective is effective]


@functools.cache
def defined_in(file: str) -> frozenset[str]:
    """Return the tests of a file."""
    path = TESTS / f"{file}.py"
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef))


@pytest.mark.parametrize("key", keys(effective=True))
def test_setting_that_works_has_a_test_of_its_effect(key: Key) -> None:
    name = full_name(key)
    if name in _OF_OTHERS.split():
        assert name not in EVIDENCE
        return
    assert name in EVIDENCE, f"name the test that shows the effect of {name} in {__file__}"
    file, test = EVIDENCE[name]
    assert test in defined_in(file)


def test_table_names_settings_that_there_are() -> None:
    names = {full_name(key) for key in REGISTRY}

    assert EVIDENCE.keys() - names == set()
    assert set(_OF_OTHERS.split()) - names == set()


@pytest.mark.parametrize("key", keys(effective=False))
def test_setting_without_effect_gives_its_notice(key: Key, tmp_path: Path) -> None:
    name = "anything" if key.name == ANY_KEY else key.spelled(0 if key.is_family else None)
    name = name.replace("<X>", "DebugLog")
    head = "[sscscp]\nMicroPACS = sscscp\nExportConverters = 1\n"
    section = "node DGATE" if key.section == NODE else key.section
    text = f"{head}[{section}]\n{name} = {other_value(key)}\n"

    found = inspect(load(write(tmp_path, text)))
    # Of a section that nobody reads, its header is reported.
    problems = [problem for problem in found if problem.line in (4, 5)]
    told = [one for one in problems if "effect" in one.message or "Lua" in one.message]
    assert told, problems
    if key.reason and key.section == MAIN:
        assert any(key.reason in problem.message for problem in told)
        assert {problem.severity for problem in told} == {Severity.INFO}
    elif key.section in (MAIN, NODE):
        assert any(key.missing in problem.message for problem in told)


def other_value(key: Key) -> str:
    """Return a value that is not the default."""
    if key.choices:
        return next(choice for choice in key.choices if choice != key.default)
    if key.type in (KeyType.BOOL, KeyType.INT, KeyType.SECONDS, KeyType.PORT):
        return "0" if key.default == "1" else "1"
    return "nop" if key.type is KeyType.SCRIPT else "other"
