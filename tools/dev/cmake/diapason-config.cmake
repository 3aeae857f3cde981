# SPDX-License-Identifier: Apache-2.0
# find_package (diapason): dps_add_plugin (NAME …) for a plugin outside Diapason's tree; see dps_add_plugin.cmake beside this file.
# What base/sha256.h does needs libcrypto besides: dps_add_plugin (NAME LIBRARIES crypto); base/matcher.h pcre2-8, base/fold.h utf8proc, the words
# and columns of base/judge.h jansson.
get_filename_component (diapason_prefix ${CMAKE_CURRENT_LIST_DIR}/../../.. ABSOLUTE)
set (DPS_SDK ${diapason_prefix}/lib/diapason/sdk)
if (NOT TARGET dps_base)
  add_library (dps_base STATIC IMPORTED GLOBAL)
  set_target_properties (dps_base PROPERTIES IMPORTED_LOCATION ${DPS_SDK}/libdps_base.a
    INTERFACE_INCLUDE_DIRECTORIES "${diapason_prefix}/include;${DPS_SDK}/include" INTERFACE_LINK_LIBRARIES m)
endif ()

function (dps_flags target)
  target_compile_options (${target} PRIVATE -Wall -Wextra -fvisibility=hidden $<$<CONFIG:>:-O2>) # where no build type was chosen
  target_compile_definitions (${target} PRIVATE _GNU_SOURCE)
  set_target_properties (${target} PROPERTIES C_STANDARD 11 C_EXTENSIONS OFF)
endfunction ()

# The templates' tests link the core, which is not installed: they run where the folder lies in the tree's plugins.d/.
function (dps_add_test file prefix)
endfunction ()

include (${CMAKE_CURRENT_LIST_DIR}/dps_add_plugin.cmake)
