# SPDX-License-Identifier: Apache-2.0
# What the CMakeLists share: compiler flags, libraries, plugins, tests.

# Tests of the sanitizer build are called asan.NAME: one CTest run holds both builds.
set (DPS_TEST_PREFIX "")
set (DPS_TEST_ENVIRONMENT "")
if (DIAPASON_SANITIZE)
  set (DPS_TEST_PREFIX "asan.")
  # gcc 12's leak checker misreads the thread-local storage of modules loaded later (libgomp's workers) and crashes: it is told not to look.
  set (DPS_TEST_ENVIRONMENT
    "ASAN_OPTIONS=detect_leaks=1:allocator_may_return_null=1:strict_string_checks=1:intercept_tls_get_addr=0" "UBSAN_OPTIONS=print_stacktrace=1")
endif ()

# Warnings, hidden symbols and sanitizers for every target of ours.
function (dps_flags target)
  target_compile_options (${target} PRIVATE -Wall -Wextra -Wconversion -Wno-sign-conversion -Wshadow -Wstrict-prototypes
    -Wmissing-prototypes -fvisibility=hidden -ffp-contract=off -fno-math-errno)
  target_compile_definitions (${target} PRIVATE _GNU_SOURCE)
  target_include_directories (${target} PUBLIC ${CMAKE_SOURCE_DIR}/core ${CMAKE_SOURCE_DIR}/core/include)
  if (DIAPASON_WERROR)
    target_compile_options (${target} PRIVATE -Werror)
  endif ()
  if (DIAPASON_SANITIZE)
    target_compile_options (${target} PRIVATE -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer)
    target_link_options (${target} PRIVATE -fsanitize=address,undefined)
  endif ()
  if (DIAPASON_FUZZ)
    target_compile_options (${target} PRIVATE -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer)
    target_link_options (${target} PRIVATE -fsanitize=address,undefined)
  endif ()
endfunction ()

function (dps_library target)
  add_library (${target} STATIC ${ARGN})
  dps_flags (${target})
endfunction ()

# dps_add_plugin (NAME [LIBRARIES …]): every *.c of this folder becomes build/lib/diapason/plugins/dps-<kind>-NAME.so, <kind> from
# the folder above (backends → backend …), exporting one symbol; NAME.plugin.in beside it is the manifest; its SHA-256 is filled in.
# Tests of the plugin (test_*.c) are CUnit programs run by ctest.
function (dps_add_plugin name)
  cmake_parse_arguments (arg "" "" "LIBRARIES;OPTIONS" ${ARGN})
  get_filename_component (parent ${CMAKE_CURRENT_SOURCE_DIR} DIRECTORY)
  get_filename_component (parent ${parent} NAME)
  string (REGEX REPLACE "s$" "" kind ${parent})
  if (parent STREQUAL "plugins.d")
    set (kind plugin)
  endif ()
  set (target dps-${kind}-${name})
  file (GLOB sources CONFIGURE_DEPENDS *.c)
  list (FILTER sources EXCLUDE REGEX "/test_[^/]*$")
  set (folder ${CMAKE_BINARY_DIR}/lib/diapason/plugins)
  add_library (${target} MODULE ${sources})
  dps_flags (${target})
  target_compile_options (${target} PRIVATE ${arg_OPTIONS})
  target_link_libraries (${target} PRIVATE dps_base ${arg_LIBRARIES})
  target_link_options (${target} PRIVATE -Wl,-z,defs -Wl,--exclude-libs,ALL
    -Wl,--version-script=${CMAKE_SOURCE_DIR}/tools/dev/plugin.map)
  set_target_properties (${target} PROPERTIES PREFIX "" LIBRARY_OUTPUT_DIRECTORY ${folder} BUILD_RPATH "" SKIP_BUILD_RPATH ON
    LINK_DEPENDS ${CMAKE_SOURCE_DIR}/tools/dev/plugin.map)
  file (GLOB manifest ${CMAKE_CURRENT_SOURCE_DIR}/*.plugin.in ${CMAKE_SOURCE_DIR}/plugins.d/${target}.plugin.in)
  add_custom_command (TARGET ${target} POST_BUILD
    COMMAND ${CMAKE_SOURCE_DIR}/tools/dev/write-manifest ${manifest} $<TARGET_FILE:${target}> ${folder}/${target}.plugin
    VERBATIM)
  set_property (GLOBAL APPEND PROPERTY DPS_PLUGIN_TARGETS ${target})
  install (FILES $<TARGET_FILE:${target}> ${folder}/${target}.plugin DESTINATION lib/diapason/plugins)
  file (GLOB tests CONFIGURE_DEPENDS test_*.c)
  foreach (test IN LISTS tests)
    dps_add_test (${test} plugin.${name})
  endforeach ()
endfunction ()

# dps_add_test (FILE PREFIX): a CUnit program from one file; DPS_TEST_DATA is tests/data, DPS_BUILD the build folder.
function (dps_add_test file prefix)
  if (DIAPASON_FUZZ)
    return ()
  endif ()
  get_filename_component (stem ${file} NAME_WE)
  string (REGEX REPLACE "^test_" "" short ${stem})
  set (target ${prefix}.${short})
  add_executable (${target} ${file})
  dps_flags (${target})
  target_link_libraries (${target} PRIVATE dps_core cunit)
  target_include_directories (${target} PRIVATE ${CMAKE_SOURCE_DIR}/tests ${CMAKE_SOURCE_DIR})
  target_compile_definitions (${target} PRIVATE DPS_TEST_DATA="${CMAKE_SOURCE_DIR}/tests/data" DPS_BUILD="${CMAKE_BINARY_DIR}"
    DPS_SOURCE="${CMAKE_SOURCE_DIR}")
  set_target_properties (${target} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  add_test (NAME ${DPS_TEST_PREFIX}${target} COMMAND ${target})
  set_tests_properties (${DPS_TEST_PREFIX}${target} PROPERTIES TIMEOUT 600 SKIP_RETURN_CODE 77 ENVIRONMENT "${DPS_TEST_ENVIRONMENT}")
endfunction ()
