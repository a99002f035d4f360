"""The Tokenizers screen: compare tokenizers on a sentence, and train one."""
