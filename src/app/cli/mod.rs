//! The command line: what each command does. Arguments are parsed in `main`.
