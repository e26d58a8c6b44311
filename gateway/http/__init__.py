"""HTTP/1.1 by hand over asyncio and httptools: what arrives is checked once, here, and handlers see plain values."""
