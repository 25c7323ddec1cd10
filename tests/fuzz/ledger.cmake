farmesh_fuzz(receipt SOURCES receipt_fuzz.cpp LINKS farmesh_ledger)
farmesh_fuzz(work_log SOURCES work_log_fuzz.cpp LINKS farmesh_ledger)
