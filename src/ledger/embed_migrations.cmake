# cmake -DFOLDER=migrations -DOUTPUT=list.cpp -P embed_migrations.cmake: the files' text as C++.
# A migration is NNN_name.sql for PostgreSQL and NNN_name.sqlite.sql for SQLite.
file(GLOB files RELATIVE ${FOLDER} ${FOLDER}/*.sqlite.sql)
list(SORT files)
set(entries "")
foreach(file ${files})
  string(REPLACE ".sqlite.sql" "" name ${file})
  string(REGEX MATCH "^0*([0-9]+)_" number ${name})
  file(READ ${FOLDER}/${name}.sql postgres)
  file(READ ${FOLDER}/${file} sqlite)
  string(APPEND entries "    {${CMAKE_MATCH_1}, \"${name}\", R\"sql__(${postgres})sql__\", R\"sql__(${sqlite})sql__\"},\n")
endforeach()
file(WRITE ${OUTPUT} "#include \"ledger/migrations.hpp\"
namespace farmesh::ledger {
std::span<const Migration> migrations() {
  static constexpr Migration list[] = {
${entries}  };
  return list;
}
}  // namespace farmesh::ledger
")
