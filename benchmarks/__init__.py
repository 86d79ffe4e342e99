"""What waiting, importing and calling cost, beside other providers and beside the least that it can cost."""
