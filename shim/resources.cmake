# Lays out what the shim's jars carry, once the libraries are built:
#
#   META-INF/native/<os>-<arch>/<library> and <library>.sha256    the natives jar of this platform
#   META-INF/metalstreams/build-id and include/                   the main jar
#
#   cmake -DBUILD=<CMake build> -DPLATFORM=<os>-<arch> -DINTO=<folder> -P resources.cmake

file(GLOB libraries ${BUILD}/lib/libmetalstreams-host.* ${BUILD}/lib/libmetalstreams-metal.*)
if(NOT libraries)
  message(FATAL_ERROR "there is no library in ${BUILD}/lib")
endif()

set(natives ${INTO}/META-INF/native/${PLATFORM})
file(REMOVE_RECURSE ${INTO}/META-INF/native)
foreach(library ${libraries})
  file(COPY ${library} DESTINATION ${natives})
  get_filename_component(name ${library} NAME)
  file(SHA256 ${library} hash)
  file(WRITE ${natives}/${name}.sha256 "${hash}\n")
endforeach()

set(shared ${INTO}/META-INF/metalstreams)
file(COPY ${BUILD}/build-id.txt DESTINATION ${shared})
file(RENAME ${shared}/build-id.txt ${shared}/build-id)
file(COPY ${CMAKE_CURRENT_LIST_DIR}/include/ DESTINATION ${shared}/include FILES_MATCHING PATTERN *.h)
