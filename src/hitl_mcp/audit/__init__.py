"""The record as evidence: is it whole and unchanged, and up to where can that be proven? Reads the record only.

How an event is hashed stands in `store.chain`; here the chain is walked and the record held against it (`verify`),
heads of it are signed (`checkpoints`), and all of it is written out (`export`).
"""

from hitl_mcp.audit.checkpoints import Checkpoint, Checkpoints, Signer
from hitl_mcp.audit.evidence import SEALS_FILE, Evidence, open_for_reading, signer_of
from hitl_mcp.audit.verify import Report, verify_database

__all__ = [
    "SEALS_FILE",
    "Checkpoint",
    "Checkpoints",
    "Evidence",
    "Report",
    "Signer",
    "open_for_reading",
    "signer_of",
    "verify_database",
]
