"""Columns of pg_catalog's and information_schema's views in PostgreSQL 15; entries as in `system_columns.py`.

Views about what FileStore does not have at all (replication progress, shared memory, hosts) are left out:
asking for them is 42P01.
"""

from typing import Final

CATALOG_VIEWS: Final = """
pg_available_extension_versions 12085
  name:name version:text installed:bool superuser:bool trusted:bool relocatable:bool schema:name
  requires:_name comment:text
pg_available_extensions 12081
  name:name default_version:text installed_version:text comment:text
pg_cursors 12077
  name:text statement:text is_holdable:bool is_binary:bool is_scrollable:bool creation_time:timestamptz
pg_group 12010
  groname:name grosysid:oid grolist:_oid
pg_indexes 12043
  schemaname:name tablename:name indexname:name tablespace:name indexdef:text
pg_locks 12073
  locktype:text database:oid relation:oid page:int4 tuple:int2 virtualxid:text transactionid:xid
  classid:oid objid:oid objsubid:int2 virtualtransaction:text pid:int4 mode:text granted:bool
  fastpath:bool waitstart:timestamptz
pg_matviews 12038
  schemaname:name matviewname:name matviewowner:name tablespace:name hasindexes:bool ispopulated:bool
  definition:text
pg_policies 12018
  schemaname:name tablename:name policyname:name permissive:text roles:_name cmd:text qual:text
  with_check:text
pg_prepared_statements 12095
  name:text statement:text prepare_time:timestamptz parameter_types:_regtype from_sql:bool
  generic_plans:int8 custom_plans:int8
pg_prepared_xacts 12090
  transaction:xid gid:text prepared:timestamptz owner:name database:name
pg_publication_tables 12068
  pubname:name schemaname:name tablename:name attnames:_name rowfilter:text
pg_replication_slots 12257
  slot_name:name plugin:name slot_type:text datoid:oid database:name temporary:bool active:bool
  active_pid:int4 xmin:xid catalog_xmin:xid restart_lsn:pg_lsn confirmed_flush_lsn:pg_lsn
  wal_status:text safe_wal_size:int8 two_phase:bool
pg_roles 12000
  rolname:name rolsuper:bool rolinherit:bool rolcreaterole:bool rolcreatedb:bool rolcanlogin:bool
  rolreplication:bool rolconnlimit:int4 rolpassword:text rolvaliduntil:timestamptz rolbypassrls:bool
  rolconfig:_text oid:oid
pg_rules 12023
  schemaname:name tablename:name rulename:name definition:text
pg_seclabels 12099
  objoid:oid classoid:oid objsubid:int4 objtype:text objnamespace:oid objname:text provider:text
  label:text
pg_sequences 12048
  schemaname:name sequencename:name sequenceowner:name data_type:regtype start_value:int8 min_value:int8
  max_value:int8 increment_by:int8 cycle:bool cache_size:int8 last_value:int8
pg_settings 12104
  name:text setting:text unit:text category:text short_desc:text extra_desc:text context:text
  vartype:text source:text min_val:text max_val:text enumvals:_text boot_val:text reset_val:text
  sourcefile:text sourceline:int4 pending_restart:bool
pg_shadow 12005
  usename:name usesysid:oid usecreatedb:bool usesuper:bool userepl:bool usebypassrls:bool passwd:text
  valuntil:timestamptz useconfig:_text
pg_stat_activity 12222
  datid:oid datname:name pid:int4 leader_pid:int4 usesysid:oid usename:name application_name:text
  client_addr:inet client_hostname:text client_port:int4 backend_start:timestamptz
  xact_start:timestamptz query_start:timestamptz state_change:timestamptz wait_event_type:text
  wait_event:text state:text backend_xid:xid backend_xmin:xid query_id:int8 query:text backend_type:text
pg_stat_all_indexes 12183
  relid:oid indexrelid:oid schemaname:name relname:name indexrelname:name idx_scan:int8
  idx_tup_read:int8 idx_tup_fetch:int8
pg_stat_all_tables 12142
  relid:oid schemaname:name relname:name seq_scan:int8 seq_tup_read:int8 idx_scan:int8
  idx_tup_fetch:int8 n_tup_ins:int8 n_tup_upd:int8 n_tup_del:int8 n_tup_hot_upd:int8 n_live_tup:int8
  n_dead_tup:int8 n_mod_since_analyze:int8 n_ins_since_vacuum:int8 last_vacuum:timestamptz
  last_autovacuum:timestamptz last_analyze:timestamptz last_autoanalyze:timestamptz vacuum_count:int8
  autovacuum_count:int8 analyze_count:int8 autoanalyze_count:int8
pg_stat_database 12266
  datid:oid datname:name numbackends:int4 xact_commit:int8 xact_rollback:int8 blks_read:int8
  blks_hit:int8 tup_returned:int8 tup_fetched:int8 tup_inserted:int8 tup_updated:int8 tup_deleted:int8
  conflicts:int8 temp_files:int8 temp_bytes:int8 deadlocks:int8 checksum_failures:int8
  checksum_last_failure:timestamptz blk_read_time:float8 blk_write_time:float8 session_time:float8
  active_time:float8 idle_in_transaction_time:float8 sessions:int8 sessions_abandoned:int8
  sessions_fatal:int8 sessions_killed:int8 stats_reset:timestamptz
pg_stat_gssapi 12253
  pid:int4 gss_authenticated:bool principal:text encrypted:bool
pg_stat_ssl 12249
  pid:int4 ssl:bool version:text cipher:text bits:int4 client_dn:text client_serial:numeric
  issuer_dn:text
pg_stat_user_indexes 12192
  relid:oid indexrelid:oid schemaname:name relname:name indexrelname:name idx_scan:int8
  idx_tup_read:int8 idx_tup_fetch:int8
pg_stat_user_tables 12161
  relid:oid schemaname:name relname:name seq_scan:int8 seq_tup_read:int8 idx_scan:int8
  idx_tup_fetch:int8 n_tup_ins:int8 n_tup_upd:int8 n_tup_del:int8 n_tup_hot_upd:int8 n_live_tup:int8
  n_dead_tup:int8 n_mod_since_analyze:int8 n_ins_since_vacuum:int8 last_vacuum:timestamptz
  last_autovacuum:timestamptz last_analyze:timestamptz last_autoanalyze:timestamptz vacuum_count:int8
  autovacuum_count:int8 analyze_count:int8 autoanalyze_count:int8
pg_stats 12053
  schemaname:name tablename:name attname:name inherited:bool null_frac:float4 avg_width:int4
  n_distinct:float4 most_common_vals:anyarray most_common_freqs:_float4 histogram_bounds:anyarray
  correlation:float4 most_common_elems:anyarray most_common_elem_freqs:_float4
  elem_count_histogram:_float4
pg_tables 12033
  schemaname:name tablename:name tableowner:name tablespace:name hasindexes:bool hasrules:bool
  hastriggers:bool rowsecurity:bool
pg_timezone_abbrevs 12122
  abbrev:text utc_offset:interval is_dst:bool
pg_timezone_names 12126
  name:text abbrev:text utc_offset:interval is_dst:bool
pg_user 12014
  usename:name usesysid:oid usecreatedb:bool usesuper:bool userepl:bool usebypassrls:bool passwd:text
  valuntil:timestamptz useconfig:_text
pg_user_mappings 12327
  umid:oid srvid:oid srvname:name umuser:oid usename:name umoptions:_text
pg_views 12028
  schemaname:name viewname:name viewowner:name definition:text
"""

INFORMATION_VIEWS: Final = """
administrable_role_authorizations 13241
  grantee:name role_name:name is_grantable:varchar
applicable_roles 13236
  grantee:name role_name:name is_grantable:varchar
character_sets 13250
  character_set_catalog:name character_set_schema:name character_set_name:name character_repertoire:name
  form_of_use:name default_collate_catalog:name default_collate_schema:name default_collate_name:name
check_constraints 13260
  constraint_catalog:name constraint_schema:name constraint_name:name check_clause:varchar
collations 13265
  collation_catalog:name collation_schema:name collation_name:name pad_attribute:varchar
column_privileges 13285
  grantor:name grantee:name table_catalog:name table_schema:name table_name:name column_name:name
  privilege_type:varchar is_grantable:varchar
columns 13295
  table_catalog:name table_schema:name table_name:name column_name:name ordinal_position:int4
  column_default:varchar is_nullable:varchar data_type:varchar character_maximum_length:int4
  character_octet_length:int4 numeric_precision:int4 numeric_precision_radix:int4 numeric_scale:int4
  datetime_precision:int4 interval_type:varchar interval_precision:int4 character_set_catalog:name
  character_set_schema:name character_set_name:name collation_catalog:name collation_schema:name
  collation_name:name domain_catalog:name domain_schema:name domain_name:name udt_catalog:name
  udt_schema:name udt_name:name scope_catalog:name scope_schema:name scope_name:name
  maximum_cardinality:int4 dtd_identifier:name is_self_referencing:varchar is_identity:varchar
  identity_generation:varchar identity_start:varchar identity_increment:varchar identity_maximum:varchar
  identity_minimum:varchar identity_cycle:varchar is_generated:varchar generation_expression:varchar
  is_updatable:varchar
constraint_column_usage 13300
  table_catalog:name table_schema:name table_name:name column_name:name constraint_catalog:name
  constraint_schema:name constraint_name:name
constraint_table_usage 13305
  table_catalog:name table_schema:name table_name:name constraint_catalog:name constraint_schema:name
  constraint_name:name
domain_constraints 13310
  constraint_catalog:name constraint_schema:name constraint_name:name domain_catalog:name
  domain_schema:name domain_name:name is_deferrable:varchar initially_deferred:varchar
domains 13320
  domain_catalog:name domain_schema:name domain_name:name data_type:varchar
  character_maximum_length:int4 character_octet_length:int4 character_set_catalog:name
  character_set_schema:name character_set_name:name collation_catalog:name collation_schema:name
  collation_name:name numeric_precision:int4 numeric_precision_radix:int4 numeric_scale:int4
  datetime_precision:int4 interval_type:varchar interval_precision:int4 domain_default:varchar
  udt_catalog:name udt_schema:name udt_name:name scope_catalog:name scope_schema:name scope_name:name
  maximum_cardinality:int4 dtd_identifier:name
enabled_roles 13325
  role_name:name
information_schema_catalog_name 13227
  catalog_name:name
key_column_usage 13329
  constraint_catalog:name constraint_schema:name constraint_name:name table_catalog:name
  table_schema:name table_name:name column_name:name ordinal_position:int4
  position_in_unique_constraint:int4
parameters 13334
  specific_catalog:name specific_schema:name specific_name:name ordinal_position:int4
  parameter_mode:varchar is_result:varchar as_locator:varchar parameter_name:name data_type:varchar
  character_maximum_length:int4 character_octet_length:int4 character_set_catalog:name
  character_set_schema:name character_set_name:name collation_catalog:name collation_schema:name
  collation_name:name numeric_precision:int4 numeric_precision_radix:int4 numeric_scale:int4
  datetime_precision:int4 interval_type:varchar interval_precision:int4 udt_catalog:name udt_schema:name
  udt_name:name scope_catalog:name scope_schema:name scope_name:name maximum_cardinality:int4
  dtd_identifier:name parameter_default:varchar
referential_constraints 13339
  constraint_catalog:name constraint_schema:name constraint_name:name unique_constraint_catalog:name
  unique_constraint_schema:name unique_constraint_name:name match_option:varchar update_rule:varchar
  delete_rule:varchar
routines 13377
  specific_catalog:name specific_schema:name specific_name:name routine_catalog:name routine_schema:name
  routine_name:name routine_type:varchar module_catalog:name module_schema:name module_name:name
  udt_catalog:name udt_schema:name udt_name:name data_type:varchar character_maximum_length:int4
  character_octet_length:int4 character_set_catalog:name character_set_schema:name
  character_set_name:name collation_catalog:name collation_schema:name collation_name:name
  numeric_precision:int4 numeric_precision_radix:int4 numeric_scale:int4 datetime_precision:int4
  interval_type:varchar interval_precision:int4 type_udt_catalog:name type_udt_schema:name
  type_udt_name:name scope_catalog:name scope_schema:name scope_name:name maximum_cardinality:int4
  dtd_identifier:name routine_body:varchar routine_definition:varchar external_name:varchar
  external_language:varchar parameter_style:varchar is_deterministic:varchar sql_data_access:varchar
  is_null_call:varchar sql_path:varchar schema_level_routine:varchar max_dynamic_result_sets:int4
  is_user_defined_cast:varchar is_implicitly_invocable:varchar security_type:varchar
  to_sql_specific_catalog:name to_sql_specific_schema:name to_sql_specific_name:name as_locator:varchar
  created:timestamptz last_altered:timestamptz new_savepoint_level:varchar is_udt_dependent:varchar
  result_cast_from_data_type:varchar result_cast_as_locator:varchar result_cast_char_max_length:int4
  result_cast_char_octet_length:int4 result_cast_char_set_catalog:name result_cast_char_set_schema:name
  result_cast_char_set_name:name result_cast_collation_catalog:name result_cast_collation_schema:name
  result_cast_collation_name:name result_cast_numeric_precision:int4
  result_cast_numeric_precision_radix:int4 result_cast_numeric_scale:int4
  result_cast_datetime_precision:int4 result_cast_interval_type:varchar
  result_cast_interval_precision:int4 result_cast_type_udt_catalog:name result_cast_type_udt_schema:name
  result_cast_type_udt_name:name result_cast_scope_catalog:name result_cast_scope_schema:name
  result_cast_scope_name:name result_cast_maximum_cardinality:int4 result_cast_dtd_identifier:name
schemata 13382
  catalog_name:name schema_name:name schema_owner:name default_character_set_catalog:name
  default_character_set_schema:name default_character_set_name:name sql_path:varchar
sequences 13386
  sequence_catalog:name sequence_schema:name sequence_name:name data_type:varchar numeric_precision:int4
  numeric_precision_radix:int4 numeric_scale:int4 start_value:varchar minimum_value:varchar
  maximum_value:varchar increment:varchar cycle_option:varchar
table_constraints 13411
  constraint_catalog:name constraint_schema:name constraint_name:name table_catalog:name
  table_schema:name table_name:name constraint_type:varchar is_deferrable:varchar
  initially_deferred:varchar enforced:varchar nulls_distinct:varchar
table_privileges 13416
  grantor:name grantee:name table_catalog:name table_schema:name table_name:name privilege_type:varchar
  is_grantable:varchar with_hierarchy:varchar
tables 13425
  table_catalog:name table_schema:name table_name:name table_type:varchar
  self_referencing_column_name:name reference_generation:varchar user_defined_type_catalog:name
  user_defined_type_schema:name user_defined_type_name:name is_insertable_into:varchar is_typed:varchar
  commit_action:varchar
triggers 13440
  trigger_catalog:name trigger_schema:name trigger_name:name event_manipulation:varchar
  event_object_catalog:name event_object_schema:name event_object_table:name action_order:int4
  action_condition:varchar action_statement:varchar action_orientation:varchar action_timing:varchar
  action_reference_old_table:name action_reference_new_table:name action_reference_old_row:name
  action_reference_new_row:name created:timestamptz
view_column_usage 13468
  view_catalog:name view_schema:name view_name:name table_catalog:name table_schema:name table_name:name
  column_name:name
view_table_usage 13478
  view_catalog:name view_schema:name view_name:name table_catalog:name table_schema:name table_name:name
views 13483
  table_catalog:name table_schema:name table_name:name view_definition:varchar check_option:varchar
  is_updatable:varchar is_insertable_into:varchar is_trigger_updatable:varchar
  is_trigger_deletable:varchar is_trigger_insertable_into:varchar
"""
