# SPDX-License-Identifier: Apache-2.0
# What `cmake --install` leaves for plugins built outside this tree: the ABI headers, base/ as headers and a static library, the link
# script, write-manifest, the templates, and two ways to find them: find_package (diapason) and pkg-config diapason. All of it is found
# relative to the installed files, so a prefix may be moved.
set (DPS_SDK_INSTALLED lib/diapason/sdk)
install (DIRECTORY core/include/diapason DESTINATION include)
install (DIRECTORY core/base DESTINATION ${DPS_SDK_INSTALLED}/include FILES_MATCHING PATTERN "*.h" PATTERN "json.h" EXCLUDE)
install (TARGETS dps_base ARCHIVE DESTINATION ${DPS_SDK_INSTALLED})
install (PROGRAMS tools/dev/write-manifest DESTINATION ${DPS_SDK_INSTALLED})
install (FILES tools/dev/plugin.map DESTINATION ${DPS_SDK_INSTALLED})
install (DIRECTORY plugins.d/template DESTINATION share/diapason)
install (FILES tools/dev/cmake/diapason-config.cmake tools/dev/cmake/dps_add_plugin.cmake DESTINATION lib/cmake/diapason)
include (CMakePackageConfigHelpers)
write_basic_package_version_file (${CMAKE_BINARY_DIR}/generated/diapason-config-version.cmake VERSION ${PROJECT_VERSION}
  COMPATIBILITY SameMinorVersion)
configure_file (tools/dev/cmake/diapason.pc.in generated/diapason.pc @ONLY)
install (FILES ${CMAKE_BINARY_DIR}/generated/diapason-config-version.cmake DESTINATION lib/cmake/diapason)
install (FILES ${CMAKE_BINARY_DIR}/generated/diapason.pc DESTINATION lib/pkgconfig)
