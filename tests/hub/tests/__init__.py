"""Tests of the Hub itself, through the real client."""
