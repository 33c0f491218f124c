//! ConfigManager.
