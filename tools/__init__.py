"""Programs for the fleet operator's workstation; nothing here runs on a device."""
