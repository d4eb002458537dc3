# Sets mst_build_id to the first 16 digits of a hash over names and contents of everything that the libraries are made of.
# Whoever builds one of them from these sources includes this file: bindings and library have to agree on the id.

set(mst_id_globs include/*.h common/*.c common/*.h host/*.c host/*.h metal/*.m metal/*.c metal/*.h metal/*.metal)
list(TRANSFORM mst_id_globs PREPEND ${CMAKE_CURRENT_LIST_DIR}/)
file(GLOB mst_id_files CONFIGURE_DEPENDS RELATIVE ${CMAKE_CURRENT_LIST_DIR} ${mst_id_globs})
list(APPEND mst_id_files CMakeLists.txt build-id.cmake)
list(SORT mst_id_files)
foreach(mst_id_file IN LISTS mst_id_files)
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${CMAKE_CURRENT_LIST_DIR}/${mst_id_file})
endforeach()
set(mst_id_text "")
foreach(mst_id_file IN LISTS mst_id_files)
  file(SHA256 ${CMAKE_CURRENT_LIST_DIR}/${mst_id_file} mst_id_hash)
  string(APPEND mst_id_text "${mst_id_file} ${mst_id_hash}\n")
endforeach()
string(SHA256 mst_id_hash "${mst_id_text}")
string(SUBSTRING ${mst_id_hash} 0 16 mst_build_id)
