# SPDX-License-Identifier: Apache-2.0
# What the CMakeLists share: compiler flags, libraries, plugins, tests.

# Tests of the sanitizer build are called asan.NAME: one CTest run holds both builds.
set (DPS_TEST_PREFIX "")
set (DPS_TEST_ENVIRONMENT "")
if (DIAPASON_SANITIZE)
  set (DPS_TEST_PREFIX "asan.")
  # gcc 12's leak checker misreads the thread-local storage of modules loaded later (libgomp's workers) and crashes: it is told not to look. PoCL takes the
  # signal stacks of threads, which the sanitizer could not free.
  set (DPS_TEST_ENVIRONMENT
    "ASAN_OPTIONS=detect_leaks=1:allocator_may_return_null=1:strict_string_checks=1:intercept_tls_get_addr=0:use_sigaltstack=0" "UBSAN_OPTIONS=print_stacktrace=1")
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

set (DPS_SDK ${CMAKE_SOURCE_DIR}/tools/dev)
include (dps_add_plugin)

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
  target_link_libraries (${target} PRIVATE check_builder dps_core cunit)
  target_include_directories (${target} PRIVATE ${CMAKE_SOURCE_DIR}/tests ${CMAKE_SOURCE_DIR})
  target_compile_definitions (${target} PRIVATE DPS_TEST_DATA="${CMAKE_SOURCE_DIR}/tests/data" DPS_BUILD="${CMAKE_BINARY_DIR}"
    DPS_SOURCE="${CMAKE_SOURCE_DIR}")
  set_target_properties (${target} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  add_test (NAME ${DPS_TEST_PREFIX}${target} COMMAND ${target})
  set_tests_properties (${DPS_TEST_PREFIX}${target} PROPERTIES TIMEOUT 600 SKIP_RETURN_CODE 77 ENVIRONMENT "${DPS_TEST_ENVIRONMENT}")
endfunction ()
