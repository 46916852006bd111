"""ArC ONE, a 32 x 32 memristor characterisation board on a serial line."""
