"""Devices: pins turned into addresses that something without a page table reads and writes on its own."""
