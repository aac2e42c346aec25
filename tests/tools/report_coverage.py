#!/usr/bin/env python3
"""Reads `llvm-cov export -summary-only` and prints the branch coverage of each file; ends with 1 when all of them
together are below the percentage given."""
import json
import os
import sys

files = json.load(sys.stdin)["data"][0]["files"]
total = covered = 0
for file in files:
    branches = file["summary"]["branches"]
    total += branches["count"]
    covered += branches["covered"]
    print(f"  {os.path.relpath(file['filename']):28}{branches['covered']:5} of {branches['count']:4} branches")
percent = 100 * covered / total
print(f"coverage: {covered} of {total} branches, {percent:.1f} percent")
sys.exit(percent < float(sys.argv[1]))
