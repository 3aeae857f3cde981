# SPDX-License-Identifier: Apache-2.0
# dps_add_plugin, in the tree and (installed) out of it. Whoever includes this file has set DPS_SDK to the folder of write-manifest and
# plugin.map, and has the target dps_base and the functions dps_flags and dps_add_test.

# dps_add_plugin (NAME [LINKED_TESTS] [LIBRARIES …] [OPTIONS …]): every *.c of this folder becomes <build>/lib/diapason/plugins/dps-<kind>-NAME.so, <kind>
# from the folder above (backends → backend …; elsewhere `plugin`), exporting one symbol; *.plugin.in beside them is the manifest; its
# SHA-256 is filled in. Tests of the plugin (test_*.c) are CUnit programs run by ctest, in the tree only: they link the core, and with LINKED_TESTS
# the plugin's sources, so that both share one allocator.
function (dps_add_plugin name)
  cmake_parse_arguments (arg "LINKED_TESTS" "" "LIBRARIES;OPTIONS" ${ARGN})
  get_filename_component (parent ${CMAKE_CURRENT_SOURCE_DIR} DIRECTORY)
  get_filename_component (parent ${parent} NAME)
  set (kind plugin)
  if (parent MATCHES "^(backend|algorithm|format)s$")
    set (kind ${CMAKE_MATCH_1})
  endif ()
  set (target dps-${kind}-${name})
  file (GLOB sources CONFIGURE_DEPENDS *.c)
  list (FILTER sources EXCLUDE REGEX "/test_[^/]*$")
  file (GLOB manifest *.plugin.in)
  list (LENGTH manifest found)
  if (NOT found EQUAL 1)
    message (FATAL_ERROR "${CMAKE_CURRENT_SOURCE_DIR} has ${found} files *.plugin.in, expected one: the plugin's manifest")
  endif ()
  set (folder ${CMAKE_BINARY_DIR}/lib/diapason/plugins)
  add_library (${target} MODULE ${sources})
  dps_flags (${target})
  target_compile_options (${target} PRIVATE ${arg_OPTIONS})
  target_link_libraries (${target} PRIVATE dps_base ${arg_LIBRARIES})
  target_link_options (${target} PRIVATE -Wl,-z,defs -Wl,--exclude-libs,ALL -Wl,--version-script=${DPS_SDK}/plugin.map)
  set_target_properties (${target} PROPERTIES PREFIX "" LIBRARY_OUTPUT_DIRECTORY ${folder} BUILD_RPATH "" SKIP_BUILD_RPATH ON
    LINK_DEPENDS "${DPS_SDK}/plugin.map;${manifest}")
  add_custom_command (TARGET ${target} POST_BUILD
    COMMAND ${DPS_SDK}/write-manifest ${manifest} $<TARGET_FILE:${target}> ${folder}/${target}.plugin
    VERBATIM)
  set_property (GLOBAL APPEND PROPERTY DPS_PLUGIN_TARGETS ${target})
  # The digest is of the file as it lies installed: `cmake --install --strip` changes bytes.
  install (TARGETS ${target} LIBRARY DESTINATION lib/diapason/plugins)
  install (FILES ${folder}/${target}.plugin DESTINATION lib/diapason/plugins)
  install (CODE "execute_process (COMMAND ${DPS_SDK}/write-manifest --again
    \"\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/lib/diapason/plugins/${target}.plugin\" COMMAND_ERROR_IS_FATAL ANY)")
  file (GLOB tests CONFIGURE_DEPENDS test_*.c)
  foreach (test IN LISTS tests)
    dps_add_test (${test} plugin.${name})
    get_filename_component (stem ${test} NAME_WE)
    string (REGEX REPLACE "^test_" "" stem ${stem})
    if (arg_LINKED_TESTS AND TARGET plugin.${name}.${stem})
      target_sources (plugin.${name}.${stem} PRIVATE ${sources})
      target_link_libraries (plugin.${name}.${stem} PRIVATE ${arg_LIBRARIES})
    endif ()
  endforeach ()
endfunction ()
