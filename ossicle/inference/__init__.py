"""Load trained parts, embed, tokenize, classify and export."""
