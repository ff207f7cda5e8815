# What our module and its sample need of Zephyr's CMake, for a PC: tests configure, build and run the sample with it.
project(Zephyr-Kernel LANGUAGES C)

add_library(zephyr_interface INTERFACE)
target_include_directories(zephyr_interface INTERFACE ${CMAKE_CURRENT_LIST_DIR}/include)
target_compile_options(zephyr_interface INTERFACE -Wall -Wextra -Werror)
add_executable(app)
target_link_libraries(app PRIVATE zephyr_interface)

function(zephyr_library_named name)
  add_library(${name} STATIC)
  target_link_libraries(${name} PRIVATE zephyr_interface)
  target_link_libraries(app PRIVATE ${name})
  set(ZEPHYR_CURRENT_LIBRARY ${name} PARENT_SCOPE)
endfunction()

function(zephyr_library_sources)
  target_sources(${ZEPHYR_CURRENT_LIBRARY} PRIVATE ${ARGN})
endfunction()

function(zephyr_include_directories)
  target_include_directories(zephyr_interface INTERFACE ${ARGN})
endfunction()

# Kconfig's part: the tests say what it gives (from kconfiglib).
file(STRINGS ${STAND_IN_CONFIG} settings REGEX "^CONFIG_")
foreach(setting IN LISTS settings)
  string(REGEX MATCH "^([^=]+)=(.*)$" matched ${setting})
  set(${CMAKE_MATCH_1} ${CMAKE_MATCH_2})
endforeach()

foreach(module IN LISTS ZEPHYR_EXTRA_MODULES)
  get_filename_component(module ${module} ABSOLUTE)
  file(STRINGS ${module}/zephyr/module.yml folder REGEX "^  cmake: ")
  string(REPLACE "  cmake: " "" folder ${folder})
  get_filename_component(name ${module} NAME)
  add_subdirectory(${module}/${folder} ${CMAKE_BINARY_DIR}/modules/${name})
endforeach()

if(CONFIG_REQUIRES_FULL_LIBC)
  target_link_libraries(app PRIVATE m) # with the whole C library come its mathematical functions
endif()
