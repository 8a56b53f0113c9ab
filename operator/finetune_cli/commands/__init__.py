"""One subcommand a file: read the arguments, fetch, hand over to `show`. No layout, no HTTP."""
