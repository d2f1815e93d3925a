# Installs a unit: with the place where the binary is, and as systemd before 253 understands it. There
# a reload is a SIGHUP of which systemd hears by the same notifications, but for whose end it does not
# wait.
#   UNIT        the file
#   BIN         the folder of the binary
#   SYSTEMD     the version; 0: not known, then as before 253, which all of them understand
#   DESTINATION where to, with DESTDIR
file(READ "${UNIT}" text)
string(REPLACE "/usr/bin/moonbus" "${BIN}/moonbus" text "${text}")
if(SYSTEMD LESS 253)
  string(REPLACE "Type=notify-reload\n" "Type=notify\nExecReload=/bin/kill -HUP $MAINPID\n" text "${text}")
endif()
get_filename_component(name "${UNIT}" NAME)
file(WRITE "${DESTINATION}/${name}" "${text}")
message(STATUS "Installing: ${DESTINATION}/${name}")
