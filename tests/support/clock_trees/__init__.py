"""Clock trees of real chips, decoded from their reference manuals and not from our boards."""
