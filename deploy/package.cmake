# What `make install` puts beside the binary for systemd, and the Debian package (`make package`).
# docs/DEPLOYING.md says what is where.

# --- systemd ------------------------------------------------------------------------------------

set(MOONBUS_SYSTEMD_VERSION "" CACHE STRING
  "Of which systemd the units are to be understood; empty: this machine's")
set(systemd_version "${MOONBUS_SYSTEMD_VERSION}")
if(NOT systemd_version)
  execute_process(COMMAND systemctl --version OUTPUT_VARIABLE systemctl ERROR_QUIET
    RESULT_VARIABLE no_systemctl)
  if(NOT no_systemctl AND systemctl MATCHES "^systemd ([0-9]+)")
    set(systemd_version ${CMAKE_MATCH_1})
  endif()
endif()
if(NOT systemd_version) # as old as any: that is understood by all
  set(systemd_version 0)
endif()

foreach(unit moonbus.service moonbus@.service)
  install(CODE "execute_process(COMMAND \"${CMAKE_COMMAND}\" -D SYSTEMD=${systemd_version}
    -D UNIT=${PROJECT_SOURCE_DIR}/deploy/systemd/${unit}
    -D \"BIN=\${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_BINDIR}\"
    -D \"DESTINATION=\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/lib/systemd/system\"
    -P ${PROJECT_SOURCE_DIR}/deploy/systemd/install.cmake COMMAND_ERROR_IS_FATAL ANY)")
endforeach()
install(FILES deploy/systemd/sysusers.conf DESTINATION lib/sysusers.d RENAME moonbus.conf)
install(FILES deploy/etc/moonbus.lua DESTINATION ${CMAKE_INSTALL_DOCDIR})
install(DIRECTORY examples DESTINATION ${CMAKE_INSTALL_DOCDIR} FILES_MATCHING PATTERN "*.lua")

# --- the Debian package -------------------------------------------------------------------------

# What is in it, without the specs and the benchmark: for who builds nothing else.
add_custom_target(packaged DEPENDS moonbus)
if(TARGET made)
  add_dependencies(packaged made)
endif()

# packed <file> <name>: beside the build, compressed as Debian wants its documents.
function(packed file name)
  set(result ${PROJECT_BINARY_DIR}/package/${name}.gz)
  install(CODE "file(MAKE_DIRECTORY ${PROJECT_BINARY_DIR}/package)
    execute_process(COMMAND gzip -9nc ${PROJECT_SOURCE_DIR}/${file} OUTPUT_FILE ${result}
      COMMAND_ERROR_IS_FATAL ANY)" COMPONENT debian EXCLUDE_FROM_ALL)
  install(FILES ${result} DESTINATION share/doc/moonbus COMPONENT debian EXCLUDE_FROM_ALL)
endfunction()

# In the package the manual is compressed as well; `make install` leaves it readable.
install(CODE "set(manual \$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/share/man/man1/moonbus.1)
  if(EXISTS \${manual})
    execute_process(COMMAND gzip -9nf \${manual} COMMAND_ERROR_IS_FATAL ANY)
  endif()" COMPONENT debian EXCLUDE_FROM_ALL)
packed(CHANGELOG.md changelog)
packed(deploy/debian/changelog changelog.Debian)
install(FILES deploy/debian/copyright DESTINATION share/doc/moonbus COMPONENT debian
  EXCLUDE_FROM_ALL)
install(FILES deploy/etc/moonbus.lua DESTINATION /etc/moonbus COMPONENT debian EXCLUDE_FROM_ALL)
install(DIRECTORY DESTINATION /etc/moonbus/handlers COMPONENT debian EXCLUDE_FROM_ALL)

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME moonbus)
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_SET_DESTDIR ON) # /etc is not below the prefix
set(CPACK_INSTALL_CMAKE_PROJECTS
  "${PROJECT_BINARY_DIR};moonbus;ALL;/;${PROJECT_BINARY_DIR};moonbus;debian;/")
set(CPACK_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_PACKAGE_DIRECTORY ${PROJECT_BINARY_DIR})
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_RELEASE 1)
set(CPACK_DEBIAN_PACKAGE_MAINTAINER "moonbus maintainers <maintainers@moonbus.invalid>")
set(CPACK_DEBIAN_PACKAGE_SECTION net)
set(CPACK_DEBIAN_PACKAGE_PRIORITY optional)
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "message handlers written in Lua, on NATS")
set(CPACK_DEBIAN_PACKAGE_DESCRIPTION
"A host program that runs message handlers written in Lua on NATS: for
subjects, requests, and JetStream streams. It owns what goes wrong in
production: connections, pulling, heartbeats, timeouts, retries, dead
letters, draining and reloading.
.
It comes with units for systemd, for one host and for several.")
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_DEPENDS "passwd, ca-certificates, tzdata, init-system-helpers (>= 1.54)")
set(CPACK_DEBIAN_PACKAGE_RECOMMENDS lua-luassert) # `moonbus test` asserts with it
set(CPACK_DEBIAN_PACKAGE_SUGGESTS nats-server)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
set(CPACK_DEBIAN_PACKAGE_CONTROL_EXTRA ${PROJECT_SOURCE_DIR}/deploy/debian/postinst
  ${PROJECT_SOURCE_DIR}/deploy/debian/prerm ${PROJECT_SOURCE_DIR}/deploy/debian/postrm
  ${PROJECT_SOURCE_DIR}/deploy/debian/conffiles)
include(CPack)
