# Lays out what the shim's jars carry, once the libraries are built:
#
#   META-INF/native/<os>-<arch>/<library> and <library>.sha256    the natives jar of this platform
#   META-INF/metalstreams/build-id and include/                   the main jar
#
#   cmake -DBUILD=<CMake build> -DPLATFORM=<os>-<arch> -DINTO=<folder> -P resources.cmake
#
# What has not changed is not written, so that the jars stay as they are.

# Writes a file unless it has this content.
function(write_changed file content)
  set(present "")
  if(EXISTS ${file})
    file(READ ${file} present)
  endif()
  if(NOT present STREQUAL content)
    file(WRITE ${file} "${content}")
  endif()
endfunction()

file(GLOB libraries ${BUILD}/lib/libmetalstreams-host.* ${BUILD}/lib/libmetalstreams-metal.*)
if(NOT libraries)
  message(FATAL_ERROR "there is no library in ${BUILD}/lib")
endif()
foreach(library ${libraries})
  get_filename_component(name ${library} NAME)
  file(COPY ${library} DESTINATION ${INTO}/META-INF/native/${PLATFORM})
  file(SHA256 ${library} hash)
  write_changed(${INTO}/META-INF/native/${PLATFORM}/${name}.sha256 "${hash}\n")
endforeach()

file(READ ${BUILD}/build-id.txt id)
write_changed(${INTO}/META-INF/metalstreams/build-id "${id}")
file(COPY ${CMAKE_CURRENT_LIST_DIR}/include/ DESTINATION ${INTO}/META-INF/metalstreams/include FILES_MATCHING PATTERN *.h)
