"""Names in SQL: functions known to change nothing, and words by which T-SQL begins a statement. Data, no code.

The first list is what sqlglot has no class for; the second what it has one for and is still not harmless. A function
that is missing here is reported as `call`, which is the safe mistake.
"""

from __future__ import annotations

__all__ = ["HARMLESS_FUNCTIONS", "STATEMENT_WORDS", "UNKNOWN_WHEN_TYPED"]

_POSTGRES = """
age now array_dims array_fill array_length array_lower array_ndims array_positions array_replace array_to_json
array_upper bit_and bit_or bool_and bool_or btrim cardinality clock_timestamp col_description convert_from date_part
decode div encode enum_range every format_type gcd gen_random_uuid generate_subscripts has_column_privilege
has_database_privilege has_schema_privilege has_table_privilege hstore inet_client_addr isfinite json_agg
json_array_elements json_array_elements_text json_array_length json_build_array json_build_object json_each
json_each_text json_extract_path json_extract_path_text json_object_agg json_object_keys json_populate_record
json_to_record json_to_recordset json_typeof jsonb_agg jsonb_array_elements jsonb_array_elements_text
jsonb_array_length jsonb_build_array jsonb_build_object jsonb_each jsonb_each_text jsonb_extract_path
jsonb_extract_path_text jsonb_object_keys jsonb_path_query jsonb_path_query_array jsonb_path_query_first jsonb_pretty
jsonb_set jsonb_to_record jsonb_to_recordset jsonb_typeof lcm make_date make_time make_timestamp make_timestamptz
masklen num_nonnulls num_nulls numrange obj_description pg_backend_pid pg_column_size pg_database_size
pg_encoding_to_char pg_get_constraintdef pg_get_expr pg_get_functiondef pg_get_indexdef pg_get_userbyid pg_get_viewdef
pg_indexes_size pg_is_in_recovery pg_postmaster_start_time pg_relation_size pg_size_pretty pg_stat_get_numscans
pg_table_is_visible pg_table_size pg_tablespace_size pg_total_relation_size pg_typeof phraseto_tsquery plainto_tsquery
quote_ident quote_literal quote_nullable regexp_match regexp_matches regexp_split_to_array regexp_split_to_table
row_to_json scale shobj_description similarity statement_timestamp timeofday to_json to_jsonb to_regclass to_tsquery
to_tsvector transaction_timestamp trim_scale ts_headline ts_rank ts_rank_cd tsrange tstzrange txid_current_snapshot
unistr version websearch_to_tsquery word_similarity
"""
_MYSQL = """
addtime bin bit_xor char_length connection_id conv crc32 database date_format export_set field find_in_set
format_bytes found_rows from_days from_unixtime get_format inet6_aton inet6_ntoa inet_aton inet_ntoa is_uuid isnull
json_contains json_contains_path json_depth json_length json_merge_patch json_merge_preserve json_overlaps json_pretty
json_quote json_search json_storage_size json_unquote json_valid json_value last_insert_id locate make_set makedate
maketime mid microsecond name_const oct octet_length ord period_add period_diff quote row_count schema sec_to_time
subtime system_user time_format time_to_sec timediff timestampadd timestampdiff to_seconds uncompressed_length
unix_timestamp utc_date utc_time utc_timestamp uuid_short uuid_to_bin weekday yearweek
"""
_SQLITE = """
changes date datetime glob iif json json_array json_array_length json_error_position json_group_array
json_group_object json_insert json_patch json_replace json_tree jsonb julianday last_insert_rowid likelihood likely
ltrim printf pragma_table_info pragma_index_list pragma_foreign_key_list random randomblob rtrim soundex
sqlite_compileoption_used sqlite_source_id sqlite_version strftime timediff total total_changes typeof unicode
unlikely zeroblob
"""
_TSQL = """
binary_checksum checksum checksum_agg choose col_length col_name columnproperty count_big databasepropertyex
datalength datename datepart db_id db_name difference error_message error_number eomonth getdate getutcdate
has_dbaccess host_name ident_current index_col isdate isjson isnumeric json_modify json_query len nchar newid
object_definition object_id object_name object_schema_name objectproperty original_login parsename quotename replicate
schema_id schema_name scope_identity serverproperty square str string_escape suser_name suser_sname switchoffset
sysdatetime sysdatetimeoffset sysutcdatetime todatetimeoffset try_cast try_convert try_parse type_id type_name user_id
user_name
"""
HARMLESS_FUNCTIONS = frozenset(f"{_POSTGRES} {_MYSQL} {_SQLITE} {_TSQL}".split())
"""Left out on purpose: what writes, waits, locks, reads files, runs a text as SQL or reaches another server."""

_UNKNOWN_WHEN_TYPED = """
AIAgg AIClassify AIEmbed AIForecast AIGenerate AISimilarity AISummarizeAgg Apply DynamicIdentifier FeaturesAtTime
GenerateBool GenerateDouble GenerateEmbedding GenerateInt GenerateTable GenerateText MLForecast MLTranslate
NextValueFor Predict ReadCSV ReadParquet Secret ToFile
"""
UNKNOWN_WHEN_TYPED = frozenset(_UNKNOWN_WHEN_TYPED.split())
"""Names of sqlglot's classes: functions that write, read files, or ask a model."""

_STATEMENT_WORDS = """
alter backup begin bulk checkpoint commit create dbcc deallocate declare delete deny disable drop dump enable exec
execute go grant if insert kill load merge raiserror receive reconfigure restore return revert revoke rollback save
send set setuser shutdown throw truncate update updatetext use waitfor while writetext
"""
STATEMENT_WORDS = frozenset(_STATEMENT_WORDS.split())
"""Words that are seldom names in T-SQL, so that one in a name's place is a second statement without a `;` before it."""
