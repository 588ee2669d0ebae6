"""Short reads aligned to a genome with bwa, in pieces of any size, with the same result as in one."""
