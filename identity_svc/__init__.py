"""Who is it? Ties identifiers to profiles and issues the tokens that prove them."""
