-- What clients of PostgreSQL look things up in, over and beside the tables that the catalog's library has. Columns and their
-- meaning: PostgreSQL 16, chapters "The Information Schema" and "System Catalogs". Nothing here has keys, so tables of keys are empty.

-- Functions are looked up by their number; the library has their names there.
CREATE OR REPLACE TABLE pg_catalog.pg_type AS
SELECT * REPLACE (
  coalesce((SELECT min(p.oid) FROM pg_catalog.pg_proc p WHERE p.proname = t.typinput), 0) AS typinput,
  coalesce((SELECT min(p.oid) FROM pg_catalog.pg_proc p WHERE p.proname = t.typoutput), 0) AS typoutput,
  coalesce((SELECT min(p.oid) FROM pg_catalog.pg_proc p WHERE p.proname = t.typreceive), 0) AS typreceive,
  coalesce((SELECT min(p.oid) FROM pg_catalog.pg_proc p WHERE p.proname = t.typsend), 0) AS typsend,
  0 AS typmodin, 0 AS typmodout, 0 AS typanalyze, 0 AS typsubscript)
FROM pg_catalog.pg_type t;

CREATE OR REPLACE TABLE pg_catalog.pg_aggregate AS
SELECT * REPLACE (coalesce((SELECT min(p.oid) FROM pg_catalog.pg_proc p WHERE p.proname = a.aggfnoid), 0) AS aggfnoid)
FROM (SELECT * REPLACE (replace(aggfnoid, 'pg_catalog.', '') AS aggfnoid) FROM pg_catalog.pg_aggregate) a;

CREATE OR REPLACE VIEW pg_catalog.pg_class AS
SELECT *, arrow_cast(NULL, 'List(Utf8)') AS relacl, arrow_cast(NULL, 'List(Utf8)') AS reloptions FROM pg_catalog.pg_class;

CREATE OR REPLACE VIEW pg_catalog.pg_namespace AS
SELECT * REPLACE (arrow_cast(NULL, 'List(Utf8)') AS nspacl) FROM pg_catalog.pg_namespace;

CREATE OR REPLACE VIEW pg_catalog.pg_extension AS
SELECT * REPLACE (arrow_cast(NULL, 'List(Int32)') AS extconfig) FROM pg_catalog.pg_extension WHERE false;

-- Keys of columns are lists of numbers.
CREATE OR REPLACE VIEW pg_catalog.pg_constraint AS
SELECT * REPLACE (
  arrow_cast(NULL, 'List(Int16)') AS conkey, arrow_cast(NULL, 'List(Int16)') AS confkey,
  arrow_cast(NULL, 'List(Int32)') AS conpfeqop, arrow_cast(NULL, 'List(Int32)') AS conppeqop,
  arrow_cast(NULL, 'List(Int32)') AS conffeqop, arrow_cast(NULL, 'List(Int32)') AS conexclop)
FROM pg_catalog.pg_constraint WHERE false;

CREATE OR REPLACE VIEW pg_catalog.pg_index AS
SELECT * REPLACE (
  arrow_cast(NULL, 'List(Int16)') AS indkey, arrow_cast(NULL, 'List(Int32)') AS indcollation,
  arrow_cast(NULL, 'List(Int32)') AS indclass, arrow_cast(NULL, 'List(Int16)') AS indoption)
FROM pg_catalog.pg_index WHERE false;

CREATE OR REPLACE VIEW pg_catalog.pg_settings AS
SELECT
  name, setting, CAST(NULL AS VARCHAR) AS unit, 'sluice' AS category, CAST(NULL AS VARCHAR) AS short_desc,
  CAST(NULL AS VARCHAR) AS extra_desc, 'internal' AS context, 'string' AS vartype, 'default' AS source,
  CAST(NULL AS VARCHAR) AS min_val, CAST(NULL AS VARCHAR) AS max_val, CAST(NULL AS VARCHAR) AS enumvals, setting AS boot_val,
  setting AS reset_val, CAST(NULL AS VARCHAR) AS sourcefile, CAST(NULL AS INT) AS sourceline, false AS pending_restart
FROM {settings} AS s (name, setting);

CREATE VIEW pg_catalog.pg_user AS
SELECT
  {user} AS usename, 10 AS usesysid, false AS usecreatedb, false AS usesuper, false AS userepl, false AS usebypassrls,
  '********' AS passwd, CAST(NULL AS TIMESTAMP) AS valuntil, CAST(NULL AS VARCHAR) AS useconfig;

CREATE VIEW pg_catalog.pg_stat_activity AS
SELECT
  CAST(NULL AS INT) AS datid, '' AS datname, 0 AS pid, 0 AS leader_pid, 0 AS usesysid, '' AS usename, '' AS application_name,
  '' AS client_addr, '' AS client_hostname, 0 AS client_port, CAST(NULL AS TIMESTAMP) AS backend_start,
  CAST(NULL AS TIMESTAMP) AS xact_start, CAST(NULL AS TIMESTAMP) AS query_start, CAST(NULL AS TIMESTAMP) AS state_change,
  '' AS wait_event_type, '' AS wait_event, '' AS state, 0 AS backend_xid, 0 AS backend_xmin, 0 AS query_id, '' AS query,
  '' AS backend_type
WHERE false;

CREATE VIEW pg_catalog.pg_available_extensions AS
SELECT '' AS name, '' AS default_version, '' AS installed_version, '' AS comment WHERE false;

CREATE VIEW pg_catalog.pg_policies AS
SELECT
  '' AS schemaname, '' AS tablename, '' AS policyname, '' AS permissive, make_array('') AS roles, '' AS cmd, '' AS qual,
  '' AS with_check
WHERE false;

CREATE VIEW pg_catalog.pg_sequences AS
SELECT
  '' AS schemaname, '' AS sequencename, '' AS sequenceowner, 0 AS data_type, 0 AS start_value, 0 AS min_value, 0 AS max_value,
  0 AS increment_by, false AS cycle, 0 AS cache_size, 0 AS last_value
WHERE false;

CREATE VIEW pg_catalog.pg_user_mappings AS
SELECT 0 AS umid, 0 AS srvid, '' AS srvname, 0 AS umuser, '' AS usename, '' AS umoptions WHERE false;

CREATE VIEW information_schema.schemata AS
SELECT
  current_database() AS catalog_name, nspname AS schema_name, {user} AS schema_owner,
  CAST(NULL AS VARCHAR) AS default_character_set_catalog, CAST(NULL AS VARCHAR) AS default_character_set_schema,
  CAST(NULL AS VARCHAR) AS default_character_set_name, CAST(NULL AS VARCHAR) AS sql_path
FROM pg_catalog.pg_namespace;

CREATE VIEW information_schema.tables AS
SELECT
  current_database() AS table_catalog, n.nspname AS table_schema, c.relname AS table_name,
  CASE c.relkind WHEN 'v' THEN 'VIEW' ELSE 'BASE TABLE' END AS table_type,
  CAST(NULL AS VARCHAR) AS self_referencing_column_name, CAST(NULL AS VARCHAR) AS reference_generation,
  CAST(NULL AS VARCHAR) AS user_defined_type_catalog, CAST(NULL AS VARCHAR) AS user_defined_type_schema,
  CAST(NULL AS VARCHAR) AS user_defined_type_name, 'NO' AS is_insertable_into, 'NO' AS is_typed,
  CAST(NULL AS VARCHAR) AS commit_action
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace;

CREATE VIEW information_schema.views AS
SELECT
  table_catalog, table_schema, table_name, CAST(NULL AS VARCHAR) AS view_definition, 'NONE' AS check_option,
  'NO' AS is_updatable, 'NO' AS is_insertable_into, 'NO' AS is_trigger_updatable, 'NO' AS is_trigger_deletable,
  'NO' AS is_trigger_insertable_into
FROM information_schema.tables WHERE table_type = 'VIEW';

CREATE VIEW information_schema.columns AS
SELECT
  current_database() AS table_catalog, n.nspname AS table_schema, c.relname AS table_name, a.attname AS column_name,
  CAST(a.attnum AS INT) AS ordinal_position, CAST(NULL AS VARCHAR) AS column_default,
  CASE WHEN a.attnotnull THEN 'NO' ELSE 'YES' END AS is_nullable,
  CASE WHEN t.typcategory = 'A' THEN 'ARRAY' ELSE format_type(a.atttypid, NULL) END AS data_type,
  CAST(NULL AS INT) AS character_maximum_length, CAST(NULL AS INT) AS character_octet_length,
  CASE t.typname WHEN 'int2' THEN 16 WHEN 'int4' THEN 32 WHEN 'int8' THEN 64 WHEN 'float4' THEN 24 WHEN 'float8' THEN 53
    WHEN 'numeric' THEN CASE WHEN a.atttypmod >= 4 THEN (a.atttypmod - 4) / 65536 END END AS numeric_precision,
  CASE WHEN t.typname IN ('int2', 'int4', 'int8', 'float4', 'float8') THEN 2 WHEN t.typname = 'numeric' THEN 10 END
    AS numeric_precision_radix,
  CASE WHEN t.typname IN ('int2', 'int4', 'int8') THEN 0
    WHEN t.typname = 'numeric' AND a.atttypmod >= 4 THEN (a.atttypmod - 4) % 65536 END AS numeric_scale,
  CASE WHEN t.typname = 'date' THEN 0 WHEN t.typcategory IN ('D', 'T') THEN 6 END AS datetime_precision,
  CAST(NULL AS VARCHAR) AS interval_type, CAST(NULL AS INT) AS interval_precision,
  CAST(NULL AS VARCHAR) AS character_set_catalog, CAST(NULL AS VARCHAR) AS character_set_schema,
  CAST(NULL AS VARCHAR) AS character_set_name, CAST(NULL AS VARCHAR) AS collation_catalog,
  CAST(NULL AS VARCHAR) AS collation_schema, CAST(NULL AS VARCHAR) AS collation_name,
  CAST(NULL AS VARCHAR) AS domain_catalog, CAST(NULL AS VARCHAR) AS domain_schema, CAST(NULL AS VARCHAR) AS domain_name,
  current_database() AS udt_catalog, 'pg_catalog' AS udt_schema, t.typname AS udt_name,
  CAST(NULL AS VARCHAR) AS scope_catalog, CAST(NULL AS VARCHAR) AS scope_schema, CAST(NULL AS VARCHAR) AS scope_name,
  CAST(NULL AS INT) AS maximum_cardinality, CAST(a.attnum AS VARCHAR) AS dtd_identifier, 'NO' AS is_self_referencing,
  'NO' AS is_identity, CAST(NULL AS VARCHAR) AS identity_generation, CAST(NULL AS VARCHAR) AS identity_start,
  CAST(NULL AS VARCHAR) AS identity_increment, CAST(NULL AS VARCHAR) AS identity_maximum,
  CAST(NULL AS VARCHAR) AS identity_minimum, 'NO' AS identity_cycle, 'NEVER' AS is_generated,
  CAST(NULL AS VARCHAR) AS generation_expression, 'NO' AS is_updatable
FROM pg_catalog.pg_attribute a
JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
WHERE a.attnum > 0;

CREATE VIEW information_schema.table_privileges AS
SELECT
  {user} AS grantor, {user} AS grantee, table_catalog, table_schema, table_name, 'SELECT' AS privilege_type,
  'NO' AS is_grantable, 'YES' AS with_hierarchy
FROM information_schema.tables;

CREATE VIEW information_schema.role_table_grants AS SELECT * FROM information_schema.table_privileges;

CREATE VIEW information_schema.table_constraints AS
SELECT
  '' AS constraint_catalog, '' AS constraint_schema, '' AS constraint_name, '' AS table_catalog, '' AS table_schema,
  '' AS table_name, '' AS constraint_type, '' AS is_deferrable, '' AS initially_deferred, '' AS enforced, '' AS nulls_distinct
WHERE false;

CREATE VIEW information_schema.key_column_usage AS
SELECT
  '' AS constraint_catalog, '' AS constraint_schema, '' AS constraint_name, '' AS table_catalog, '' AS table_schema,
  '' AS table_name, '' AS column_name, CAST(0 AS INT) AS ordinal_position, CAST(0 AS INT) AS position_in_unique_constraint
WHERE false;

CREATE VIEW information_schema.constraint_column_usage AS
SELECT
  '' AS table_catalog, '' AS table_schema, '' AS table_name, '' AS column_name, '' AS constraint_catalog,
  '' AS constraint_schema, '' AS constraint_name
WHERE false;

CREATE VIEW information_schema.referential_constraints AS
SELECT
  '' AS constraint_catalog, '' AS constraint_schema, '' AS constraint_name, '' AS unique_constraint_catalog,
  '' AS unique_constraint_schema, '' AS unique_constraint_name, '' AS match_option, '' AS update_rule, '' AS delete_rule
WHERE false;

CREATE VIEW information_schema.routines AS
SELECT
  '' AS specific_catalog, '' AS specific_schema, '' AS specific_name, '' AS routine_catalog, '' AS routine_schema,
  '' AS routine_name, '' AS routine_type, '' AS data_type, '' AS routine_definition
WHERE false;

CREATE VIEW information_schema.parameters AS
SELECT
  '' AS specific_catalog, '' AS specific_schema, '' AS specific_name, CAST(0 AS INT) AS ordinal_position, '' AS parameter_mode,
  '' AS parameter_name, '' AS data_type
WHERE false;

CREATE VIEW information_schema.sequences AS
SELECT '' AS sequence_catalog, '' AS sequence_schema, '' AS sequence_name, '' AS data_type WHERE false;

CREATE VIEW information_schema.triggers AS
SELECT '' AS trigger_catalog, '' AS trigger_schema, '' AS trigger_name, '' AS event_object_schema, '' AS event_object_table
WHERE false
