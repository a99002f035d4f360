"""The Learn screen: lessons, each a page of text beside a live experiment."""
